package caddycvs

// This file holds how `caddy cvs check` tries an account's keys: it gets a real token, and looks up a payment
// that does not exist.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// noPayment is the number of a payment that does not exist. Looking it up shows whether the API takes token
// and tier, and changes nothing.
const noPayment = "imp_000000000000"

const maxClockOffset = 10 * time.Second

func tokenStep(acc *account) step {
	return func(ctx context.Context, n *network, r *report) {
		where := accountInWords(acc.name)
		ctx, cancel := context.WithTimeout(ctx, n.limit)
		defer cancel()
		_, err := acc.client.Payment(ctx, noPayment)
		refusal, isRefusal := errors.AsType[*client.APIError](err)
		switch {
		case err == nil, errors.Is(err, client.ErrNotFound):
			r.good("%s: %s gives a token, and takes it", where, acc.api)
		case errors.Is(err, client.ErrCredentials):
			r.fail("keys_refused", where, acc.api+" refuses imp_key and imp_secret", "compare them with the REST API keys in PortOne's console")
		case errors.Is(err, client.ErrNoToken):
			r.fail("no_token", where, acc.api+" gives no token: "+client.Cause(err), advice(acc))
		case isRefusal && refusal.Status != http.StatusTooManyRequests && refusal.Status < http.StatusInternalServerError && acc.tier != "":
			r.fail("tier_refused", where, fmt.Sprintf("%s gives a token, but answers HTTP %d with tier %s", acc.api, refusal.Status, acc.tier), "compare tier with the code of the sub-merchant, and ask whether these keys may use it")
		default:
			r.fail("api_refuses", where, acc.api+" gives a token, but no look-up succeeds: "+client.Cause(err), adviceOnLookup(err, acc))
		}
		if offset, known := acc.client.State().ClockOffset(); known && offset.Abs() > maxClockOffset {
			direction := "slow"
			if offset < 0 {
				direction = "fast"
			}
			r.warn("clock", where, fmt.Sprintf("this machine's clock is %s %s by the API's", offset.Abs().Round(time.Second), direction), "synchronize it, such as with chrony or systemd-timesyncd")
		}
	}
}

// adviceOnLookup says what to do about an API that gives a token, but answers no look-up.
func adviceOnLookup(err error, acc *account) string {
	refusal, isRefusal := errors.AsType[*client.APIError](err)
	switch {
	case isRefusal && refusal.Status == http.StatusTooManyRequests:
		return "run the check again in a minute: the API had too many requests"
	case isRefusal && refusal.Status >= http.StatusInternalServerError:
		return "run the check again later: the API has a fault, which PortOne's status page may name"
	case isRefusal:
		return "ask PortOne what these keys may do"
	}
	return advice(acc)
}

// advice says what to do about an API that gives no token.
func advice(acc *account) string {
	if f := acc.client.State().TokenStatus().Failure; f != nil && f.Cause == client.TokenForeign {
		return "check the option api: something else answers there, or the API is down"
	}
	return "check the option api, the firewall and the DNS of this machine"
}
