package caddycvs

// This file holds what the HTTP handlers share: who may call, how a body is read
// and how an answer is sent.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// httpError is an own answer.
type httpError struct {
	status  int
	message string
}

func (e *httpError) Error() string { return e.message }

// access decides by the client's address, as Caddy determines it.
type access struct {
	matcher  caddyhttp.MatchClientIP
	prefixes []netip.Prefix
}

// portoneAddresses are the published sources of webhooks.
var portoneAddresses = []string{"52.78.100.19", "52.78.48.223", "52.78.5.241"}

func (a *access) provision(ctx caddy.Context, allow []string) error {
	if allow != nil && len(allow) == 0 {
		return errors.New("allow is empty: name who may call, or leave it out for the default")
	}
	for _, word := range allow {
		if err := checkRange(word); err != nil {
			return err
		}
		for _, cidr := range ranges(word) {
			prefix, _ := caddyhttp.CIDRExpressionToPrefix(cidr)
			a.prefixes = append(a.prefixes, prefix)
			a.matcher.Ranges = append(a.matcher.Ranges, cidr)
		}
	}
	return a.matcher.Provision(ctx)
}

// ranges returns what a word of the option allow stands for.
func ranges(word string) []string {
	switch word {
	case "private_ranges":
		return caddyhttp.PrivateRangesCIDR()
	case "portone":
		return portoneAddresses
	default:
		return []string{word}
	}
}

var errPortOneCalls = errors.New("allow portone is for cvs_confirm: PortOne never calls cvs_proxy")

// checkCaller is checkRange for cvs_proxy.
func checkCaller(word string) error {
	if word == "portone" {
		return errPortOneCalls
	}
	return checkRange(word)
}

func checkRange(word string) error {
	for _, cidr := range ranges(word) {
		if _, err := caddyhttp.CIDRExpressionToPrefix(cidr); err != nil {
			return fmt.Errorf("allow %q: need an IP address, a CIDR range, private_ranges or portone", word)
		}
	}
	return nil
}

var errForbidden = &httpError{http.StatusForbidden, "This address may not call the gateway: see the option allow."}

func (a *access) check(r *http.Request) error {
	if r.RemoteAddr == "@" && clientIP(r) == "" { // a unix socket is this machine
		if a.contains("127.0.0.1") {
			return nil
		}
		return errForbidden
	}
	ok, err := a.matcher.MatchWithError(r)
	if err != nil {
		return &httpError{http.StatusTooEarly, "The TLS handshake is not complete: send the request again."}
	}
	if !ok {
		return errForbidden
	}
	return nil
}

func (a *access) contains(ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func clientIP(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}

// addressHeaders are set by proxies to tell a client's address.
var addressHeaders = []string{
	"Forwarded", "X-Forwarded-For", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip",
}

// forwardingHeaders are all that proxies set. A request that has one was not sent
// by the peer itself.
var forwardingHeaders = slices.Concat(addressHeaders, []string{
	"Via", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
})

// checkForwarded refuses what a proxy passed on that is not trusted: its own
// address, perhaps a private one, would vouch for anybody. Of a trusted one,
// every address that it tells must be allowed, as Caddy believes the first
// unless trusted_proxies_strict is set, and that one the client may have made up.
func (a *access) checkForwarded(r *http.Request) error {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	var ipHeaders []string
	if server != nil {
		ipHeaders = server.ClientIPHeaders
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		return a.checkTold(r, ipHeaders, server != nil && server.TrustedProxiesStrict > 0)
	}
	forwarded := slices.ContainsFunc(forwardingHeaders, func(name string) bool { return len(r.Header[name]) > 0 }) ||
		slices.ContainsFunc(ipHeaders, func(name string) bool { return len(r.Header.Values(name)) > 0 })
	if forwarded {
		return &httpError{http.StatusForbidden, "The request was forwarded by a proxy that is not trusted: see the global option trusted_proxies."}
	}
	return nil
}

// checkTold refuses a trusted proxy's request that may be somebody's who is not
// allowed. What Caddy cannot read as an address it skips, strictly too, and
// believes what stands before it; a field that it does not look for may name
// another client than the one that it found.
func (a *access) checkTold(r *http.Request, ipHeaders []string, strictly bool) error {
	told := false
	for _, name := range ipHeaders {
		for part := range strings.SplitSeq(strings.Join(r.Header.Values(name), ","), ",") {
			ip := strings.TrimSpace(part)
			if ip == "" {
				continue
			}
			told = true
			if strictly && !readable(part) || !strictly && !a.contains(ip) {
				return errForbidden
			}
		}
	}
	for _, name := range addressHeaders {
		if slices.ContainsFunc(ipHeaders, func(read string) bool { return strings.EqualFold(read, name) }) {
			continue
		}
		for _, ip := range r.Header.Values(name) {
			if !a.contains(strings.TrimSpace(ip)) && (!told || name != "Forwarded") {
				return &httpError{http.StatusForbidden, "The proxy tells the client's address in " + name + ": see the global option client_ip_headers."}
			}
		}
	}
	return nil
}

// readable reports whether Caddy finds an address in one part of a list.
func readable(part string) bool {
	host, _, err := net.SplitHostPort(part)
	if err != nil {
		host = part
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), "%")
	_, err = netip.ParseAddr(host)
	return err == nil
}

// readBody reads at most limit bytes, and not beyond the deadline: a slow body
// must not hold the request.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, &httpError{http.StatusUnsupportedMediaType, "send the body without Content-Encoding"}
	}
	defer readUntil(w, deadline)()
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if met, ok := errors.AsType[*http.MaxBytesError](err); ok { // perhaps request_body's
		return nil, tooLarge(met.Limit)
	}
	if err != nil && time.Now().After(deadline) {
		return nil, &httpError{http.StatusRequestTimeout, "the body did not arrive in time"}
	}
	if err != nil {
		return nil, &httpError{http.StatusBadRequest, "the body is incomplete"}
	}
	return body, nil
}

// readUntil sets a deadline for a body to arrive. The function that it returns takes it
// back: it must not outlive the body, for it would end the request.
func readUntil(w http.ResponseWriter, deadline time.Time) (end func()) {
	conn := http.NewResponseController(w)
	if conn.SetReadDeadline(deadline) != nil {
		return func() {}
	}
	return func() { _ = conn.SetReadDeadline(time.Time{}) }
}

func tooLarge(limit int64) error {
	return &httpError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit)}
}

// readAll reads a body to its end, which HTTP/2 tells apart from its last byte. The
// size that it declares, if any, saves copying.
func readAll(body io.Reader, size int64) ([]byte, error) {
	const largest = 64 << 10 // that a mere declaration gets
	whole := bytes.NewBuffer(make([]byte, 0, max(min(size, largest), 0)+bytes.MinRead))
	_, err := whole.ReadFrom(body)
	return whole.Bytes(), err
}

// sendAnswer sends an answer at once: what is done after it, such as logging, must
// not delay it.
func sendAnswer(w http.ResponseWriter, status int, contentType string, body []byte) error {
	header := w.Header()
	header["Cache-Control"] = []string{"no-store"} // of its own: other handlers change it in place
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	if contentType != "" {
		header["Content-Type"] = []string{contentType}
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// closeUnread ends the connection with an answer that does not depend on the
// body. Over HTTP/1 the server would else read what is left of it first, and a
// sender that stalls would never be answered.
func closeUnread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}
