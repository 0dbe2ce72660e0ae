package caddycvs

// This file holds how Caddy's admin endpoint shows the metrics of the configuration that runs. The endpoint
// keeps the registry of the configuration that was loaded last, also if that has failed.

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"
)

// registered has the app of each registry, until its configuration ends.
var registered sync.Map // *prometheus.Registry to *App

// ofApp is a collector of a configuration. Once that has ended, or has failed to load, it shows nothing.
type ofApp struct {
	prometheus.Collector
	registry *prometheus.Registry
	app      *App
}

// Collect implements prometheus.Collector.
func (c ofApp) Collect(metrics chan<- prometheus.Metric) {
	if app, _ := registered.Load(c.registry); app == c.app {
		c.Collector.Collect(metrics)
	}
}

// ofPresent shows the metrics of the configuration that runs in a registry that has none of its own.
type ofPresent struct{ registry *prometheus.Registry }

// Describe sends nothing: which metrics there are depends on the configuration that runs.
func (ofPresent) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c ofPresent) Collect(metrics chan<- prometheus.Metric) {
	if _, has := registered.Load(c.registry); has {
		return
	}
	if app, err := presentApp(); err == nil {
		for _, collector := range app.collectors() {
			collector.Collect(metrics)
		}
	}
}

// guested has the registries that have an ofPresent, while their configurations are loaded and run.
var guested sync.Map // *prometheus.Registry to bool

// Provision has the registry of the admin endpoint show the metrics of the configuration that runs. Caddy
// calls it twice if there is a remote endpoint.
func (*Admin) Provision(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if _, has := guested.LoadOrStore(registry, true); has {
		return nil
	}
	ctx.OnCancel(func() { guested.Delete(registry) })
	return registry.Register(ofPresent{registry})
}

// collectors are what a configuration shows.
func (a *App) collectors() []prometheus.Collector {
	return append([]prometheus.Collector{newAppCollector(a)}, a.metrics.shown().all...)
}

// register gives the collectors to the configuration's registry.
func (a *App) register(registry *prometheus.Registry) error {
	registered.Store(registry, a)
	a.registry = registry
	for _, collector := range a.collectors() {
		if err := registry.Register(ofApp{collector, registry, a}); err != nil {
			return err
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner    = (*Admin)(nil)
	_ prometheus.Collector = ofApp{}
	_ prometheus.Collector = ofPresent{}
)
