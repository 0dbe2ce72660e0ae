package emulator

// The endpoints and their paths.

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/emulator/tillpage"
)

// Endpoint is a kind of request: one to an endpoint of the API, or one of the two webhooks, which the emulator sends.
type Endpoint string

// The endpoints. EndpointAll means all of them in a [Fault].
const (
	EndpointToken    Endpoint = "token"    // POST /users/getToken
	EndpointIssue    Endpoint = "issue"    // POST /cvs
	EndpointVoid     Endpoint = "void"     // DELETE /cvs/{imp_uid}
	EndpointPayment  Endpoint = "payment"  // GET /payments/{imp_uid}
	EndpointPayments Endpoint = "payments" // GET /payments?imp_uid[]=
	EndpointBalance  Endpoint = "balance"  // GET /payments/{imp_uid}/balance
	EndpointFind     Endpoint = "find"     // GET /payments/find/{merchant_uid}[/{payment_status}]
	EndpointFindAll  Endpoint = "find_all" // GET /payments/findAll/{merchant_uid}[/{payment_status}]
	EndpointList     Endpoint = "list"     // GET /payments/status/{payment_status}
	EndpointCancel   Endpoint = "cancel"   // POST /payments/cancel
	EndpointPrepare  Endpoint = "prepare"  // POST and PUT /payments/prepare, GET /payments/prepare/{merchant_uid}
	EndpointCard     Endpoint = "card"     // POST /subscribe/payments/onetime
	EndpointConfirm  Endpoint = "confirm"  // POST {confirm_url}, sent by the emulator
	EndpointNotice   Endpoint = "notice"   // POST {notice_url}, sent by the emulator
	EndpointAll      Endpoint = "all"
)

// route is a method and a path that the emulator serves: an endpoint of the API, or one of the emulator's own.
type route struct {
	path     []string // the escaped segments, "*" for a variable one
	method   string
	endpoint Endpoint
	api      func(*call) response // for an endpoint of the API
	control  http.HandlerFunc     // for the till and its page, and below /sandbox
}

func (e *Emulator) newRoutes() []route {
	api := func(method, path string, endpoint Endpoint, do func(*call) response) route {
		return route{path: strings.Split(path, "/"), method: method, endpoint: endpoint, api: do}
	}
	control := func(method, path string, do http.HandlerFunc) route {
		return route{path: strings.Split(path, "/"), method: method, control: do}
	}
	return []route{
		api(http.MethodPost, "users/getToken", EndpointToken, e.getToken),
		api(http.MethodPost, "cvs", EndpointIssue, e.issue),
		api(http.MethodDelete, "cvs/*", EndpointVoid, e.void),
		api(http.MethodGet, "payments", EndpointPayments, e.payments),
		api(http.MethodGet, "payments/*", EndpointPayment, e.payment),
		api(http.MethodGet, "payments/*/balance", EndpointBalance, e.balance),
		api(http.MethodGet, "payments/find/*", EndpointFind, e.find),
		api(http.MethodGet, "payments/find/*/*", EndpointFind, e.find),
		api(http.MethodGet, "payments/findAll/*", EndpointFindAll, e.findAll),
		api(http.MethodGet, "payments/findAll/*/*", EndpointFindAll, e.findAll),
		api(http.MethodGet, "payments/status/*", EndpointList, e.list),
		api(http.MethodPost, "payments/cancel", EndpointCancel, e.cancelPayment),
		api(http.MethodPost, "payments/prepare", EndpointPrepare, e.prepare),
		api(http.MethodPut, "payments/prepare", EndpointPrepare, e.updatePrepared),
		api(http.MethodGet, "payments/prepare/*", EndpointPrepare, e.getPrepared),
		api(http.MethodPost, "subscribe/payments/onetime", EndpointCard, e.payByCard),
		control(http.MethodGet, "", e.serveRoot),
		control(http.MethodGet, "till", tillpage.Handler(e.tillPage)),
		control(http.MethodGet, "till.css", tillpage.File("till.css", "text/css; charset=utf-8")),
		control(http.MethodGet, "till.js", tillpage.File("till.js", "text/javascript; charset=utf-8")),
		control(http.MethodGet, "till.svg", tillpage.File("till.svg", "image/svg+xml")),
		control(http.MethodPost, "till", e.serveTill),
		control(http.MethodPost, "till-refund", e.serveRefundForm),
		control(http.MethodPost, "till-faults", e.serveFaultForm),
		control(http.MethodPost, "till-normal", e.serveClearForm),
		control(http.MethodGet, "sandbox/payments", e.servePayments),
		control(http.MethodGet, "sandbox/faults", e.serveFaults),
		control(http.MethodPost, "sandbox/faults", e.serveInjectFault),
		control(http.MethodDelete, "sandbox/faults", e.serveClearFaults),
	}
}

// reservedSegments are the segments after /payments/ that are no imp_uid.
var reservedSegments = []string{"cancel", "find", "findAll", "prepare", "status"}

// matches reports whether a path belongs to the route, and returns its variable segments. One slash at the end of a path of the
// API is ignored, because many clients write one.
func (rt route) matches(segments []string) (args []string, ok bool) {
	if last := len(segments) - 1; rt.api != nil && last > 0 && segments[last] == "" {
		segments = segments[:last]
	}
	if len(segments) != len(rt.path) {
		return nil, false
	}
	for i, want := range rt.path {
		switch {
		case want == "*" && i == 1 && rt.path[0] == "payments" && slices.Contains(reservedSegments, segments[1]):
			return nil, false
		case want == "*":
			arg, err := url.PathUnescape(segments[i])
			if err != nil {
				return nil, false
			}
			args = append(args, arg)
		case want != segments[i]:
			return nil, false
		}
	}
	return args, true
}

// methods returns the methods that the route accepts. Some clients of the API use POST for look-ups.
func (rt route) methods() []string {
	if rt.api != nil && rt.method == http.MethodGet {
		return []string{http.MethodGet, http.MethodPost}
	}
	return []string{rt.method}
}
