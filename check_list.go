package caddycvs

// This file holds the list of what `caddy cvs check` inspects without the network.

// staticInspections judge what is written in the configuration.
var staticInspections = []func(*setup, *report){
	inspectAccounts,
	inspectSecretFiles,
	inspectProxies,
	inspectExposure,
	inspectTrustedProxies,
	inspectCallbacks,
	inspectConfirms,
	inspectChecks,
	inspectNotices,
	inspectPairs,
	inspectRoutes,
	inspectShutdown,
	inspectNodes,
	inspectMetrics,
}

// inspect runs the inspections that need no network.
func (s *setup) inspect() *report {
	all := new(report)
	for _, run := range staticInspections {
		one := new(report)
		run(s, one)
		all.add(one)
	}
	return all
}
