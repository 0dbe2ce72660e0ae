package emulator

// The gateway that runs in the same process, for the till's page.

import (
	"context"

	"github.com/caddy-cvs/caddy-cvs/client/emulator/tillpage"
)

// Gateway is whether a gateway is ready, and GatewayReason why not.
type (
	Gateway       = tillpage.Gateway
	GatewayReason = tillpage.Reason
)

// gatewayKey is the key of a func() Gateway in a request's context.
type gatewayKey struct{}

// WithGateway returns a context for a request, with which the till's page shows the state of a gateway. The emulator knows
// nothing of one by itself: several may use it, and their configurations are replaced while it goes on.
func WithGateway(ctx context.Context, state func() Gateway) context.Context {
	return context.WithValue(ctx, gatewayKey{}, state)
}

// gatewayIn returns the state of the gateway of a request's context, nil if there is none.
func gatewayIn(ctx context.Context) *Gateway {
	state, has := ctx.Value(gatewayKey{}).(func() Gateway)
	if !has {
		return nil
	}
	return new(state())
}
