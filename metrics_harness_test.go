package caddycvs

// This file holds what tests of metrics and events share.

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// quietApp returns an app that counts and emits, for tests that provision none.
func quietApp(t testing.TB) *App {
	t.Helper()
	ctx, err := gatewaytest.Provision(&caddy.Config{})
	require.NoError(t, err)
	a := &App{ledger: new(appLedger), metrics: newMetrics(nil), logger: zap.NewNop()}
	a.events, err = newEmitter(ctx, a.metrics, a.logger)
	require.NoError(t, err)
	return a
}

// gathered returns the series of the metrics of the running Caddy, as short as the documents have them:
// without the prefix, with the values of the labels in the order of the documents' table. A histogram is the
// number of what it has seen.
func gathered(t testing.TB) map[string]float64 {
	t.Helper()
	ctx := caddy.ActiveContext()
	return gatheredFrom(t, ctx.GetMetricsRegistry())
}

func gatheredFrom(t testing.TB, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	series := make(map[string]float64)
	for _, family := range families {
		name, own := strings.CutPrefix(family.GetName(), metricsPrefix+"_")
		if !own {
			continue
		}
		for _, m := range family.GetMetric() {
			values := make(map[string]string)
			for _, label := range m.GetLabel() {
				values[label.GetName()] = label.GetValue()
			}
			var list []string
			for _, label := range labelOrder {
				if value, has := values[label]; has {
					list = append(list, value)
				}
				delete(values, label)
			}
			require.Empty(t, values, "labels that are not known here")
			key := name
			if list != nil {
				key += "{" + strings.Join(list, ",") + "}"
			}
			series[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return series
}

// labelOrder has all labels. In each metric they stand in this order.
var labelOrder = []string{"operation", "source", "check", "verdict", "outcome", "cause", "state", labelAccount}

// moved returns the series whose values differ.
func moved(before, after map[string]float64) (list []string) {
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if after[key] != before[key] {
			list = append(list, key)
		}
	}
	return list
}
