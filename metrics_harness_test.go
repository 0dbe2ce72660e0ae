package caddycvs

// This file holds what tests of metrics and events share.

import (
	"testing"

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
