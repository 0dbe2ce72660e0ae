package caddycvs

// This file holds tests of the calls that are under way when Caddy stops.

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-cvs/caddy-cvs/internal/lag"
)

// A handler that hangs for good, for example because the log's disk does, must not keep the
// program from ending, and its order must be in the log.
func TestShutdownLogsUnansweredCalls(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zapcore.ErrorLevel)
	u := newPendingCalls()
	answered := u.begin(pendingCall{subject{operation: "issue", merchantUID: "order-6"}, time.Now().Add(time.Minute), ""})
	var ends []func()
	for n := range 2 {
		c := pendingCall{subject{operation: "issue", account: "second", merchantUID: "order-7", amount: "15000"}, time.Now().Add(300 * time.Millisecond), ""}
		if n == 1 {
			c = pendingCall{subject{operation: "void", impUID: "imp_1"}, time.Now().Add(100 * time.Millisecond), ""}
		}
		ends = append(ends, u.begin(c))
	}
	time.AfterFunc(200*time.Millisecond, answered)
	began, late := time.Now(), lag.Watch()
	u.finish(zap.New(core))
	took := time.Since(began)
	assert.LessOrEqual(t, took, 300*time.Millisecond+late()+100*time.Millisecond)
	require.Equal(t, 2, lines.Len(), "each once, and not the one that was answered")
	assert.Equal(t, map[string]any{"operation": "void", "account": "", "merchant_uid": "", "imp_uid": "imp_1", "amount": ""}, lines.All()[0].ContextMap())
	assert.Equal(t, map[string]any{"operation": "issue", "account": "second", "merchant_uid": "order-7", "imp_uid": "", "amount": "15000"}, lines.All()[1].ContextMap())
	u.finish(zap.New(core))
	assert.Equal(t, 2, lines.Len(), "for the next server there is nothing left to wait for")
	for _, end := range ends {
		end() // after all
	}
}
