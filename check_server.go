package caddycvs

// This file holds what `caddy cvs check` says of the server as a whole: shutdown, several nodes, metrics.

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// inspectShutdown finds a grace period in which a decision cannot end.
func inspectShutdown(s *setup, r *report) {
	grace := time.Duration(s.http.GracePeriod)
	if grace == 0 {
		return
	}
	// For calls that change something the gateway waits in any case.
	for _, c := range s.confirms {
		if timeout := time.Duration(c.handler.Timeout); grace < timeout {
			r.warn("grace_period", "the global option grace_period", fmt.Sprintf("%s is shorter than the timeout of %s, %s: at a reload or a stop a till may get no answer, and the customer cannot pay", grace, c.name("cvs_confirm"), timeout),
				fmt.Sprintf("set grace_period to %s or more, and the service manager's time to stop above it", timeout+time.Second))
		}
	}
}

// inspectNodes finds a ledger in a file although several nodes share what Caddy keeps.
func inspectNodes(s *setup, r *report) {
	if place := s.app.ledger.place; place == nil || place.store != ledgerFile || !s.app.ledger.needed {
		return
	}
	if module := storageModule(s.storage); module != "" && module != fileStorage {
		r.warn("nodes_with_file", "the global option cvs, ledger", "Caddy's storage is "+module+", which several nodes share, and the ledger is a file of this node: each node may issue a barcode for the same order",
			"use ledger postgres or ledger mysql, unless there is one node")
	}
}

// inspectMetrics finds a gateway that nobody can watch.
func inspectMetrics(s *setup, r *report) {
	if admin := s.config.Admin; admin != nil && admin.Disabled && !s.servesMetrics() {
		r.warn("metrics_off", "the global option admin", "admin is off, and no site has the directive metrics: nobody is warned when tokens, confirms or tells fail", "remove admin off, or add metrics to a site that only you can reach")
		return
	}
	r.good("metrics: can be read")
}

// servesMetrics reports whether a route has the directive metrics.
func (s *setup) servesMetrics() bool {
	for _, server := range s.http.Servers {
		if newWalk(server).has(routesOf(server), isMetrics) {
			return true
		}
	}
	return false
}

func isMetrics(h caddyhttp.MiddlewareHandler) bool {
	module, ok := h.(caddy.Module)
	return ok && module.CaddyModule().ID == "http.handlers.metrics"
}
