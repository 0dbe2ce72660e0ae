package caddycvs

// This file holds how the commands ask the admin endpoint of a running gateway, and what they say if it
// does not answer.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	askTimeout = 15 * time.Second
	maxAnswer  = 64 << 20
)

// gateway is the admin endpoint of a gateway. Caddy's own AdminAPIRequest has no time limit, and returns
// errors as text only.
type gateway struct {
	address string // as an operator writes it
	network string
	dial    string
	host    string

	patience time.Duration // with a backup, 0 for the usual one
}

// findGateway reads the flags of addAdminFlags.
func findGateway(cmd *cobra.Command) (*gateway, error) {
	address, _ := cmd.Flags().GetString("address")
	file, _ := cmd.Flags().GetString("config")
	adapter, _ := cmd.Flags().GetString("adapter")
	var config []byte
	switch {
	case adapter != "" && file == "":
		return nil, cannotAsk("--adapter is for --config: name the configuration file, too")
	case address != "" && file != "":
		return nil, cannotAsk("--address and --config both say where the gateway is: use one of them")
	case file != "":
		var err error
		if config, _, _, err = caddycmd.LoadConfig(file, adapter); err != nil {
			return nil, cannotAsk("reading the configuration: %v", err)
		}
		var admin struct {
			Admin caddy.AdminConfig `json:"admin"`
		}
		if json.Unmarshal(config, &admin) == nil && admin.Admin.Disabled {
			return nil, cannotAsk("the admin endpoint is off in %s (admin off): these commands need it. Give it an address, such as admin unix//run/caddy/admin.sock", file)
		}
	}
	address, err := caddycmd.DetermineAdminAPIAddress(address, config, file, adapter)
	if err != nil {
		return nil, cannotAsk("%v", err)
	}
	return newGateway(address)
}

// newGateway reads an address as Caddy's admin endpoint does.
func newGateway(text string) (*gateway, error) {
	address, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return nil, cannotAsk("the address of the admin endpoint: %v. Set it for this command, too, or use --address", err)
	}
	parsed, err := caddy.ParseNetworkAddressWithDefaults(address, "tcp", 2019)
	if err != nil || parsed.PortRangeSize() != 1 || strings.Contains(address, "://") {
		return nil, cannotAsk("%q is no address of an admin endpoint: write it as localhost:2019 or unix//run/caddy/admin.sock", address)
	}
	g := &gateway{address: address, network: parsed.Network, dial: parsed.JoinHostPort(0), host: parsed.JoinHostPort(0)}
	switch {
	case parsed.IsUnixNetwork():
		g.dial, _, _ = strings.Cut(parsed.Host, "|") // the permissions of the socket
		g.host = "127.0.0.1"
	case parsed.IsFdNetwork():
		return nil, cannotAsk("the admin endpoint has a socket of the service manager (%s), which no other process can use by that name: name its address with --address", address)
	}
	return g, nil
}

// request sends a request. The caller must close the body.
func (g *gateway) request(ctx context.Context, method, uri string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+g.host+uri, bytes.NewReader(body))
	if err != nil {
		return nil, cannotAsk("%q is no address of an admin endpoint", g.address)
	}
	if body != nil {
		r.Header.Set("Content-Type", strict.JSON)
	}
	if g.host != "127.0.0.1" { // Caddy refuses one that it does not know
		r.Header.Set("Origin", "http://"+g.host)
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, g.network, g.dial)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, g.explain(err)
	}
	return response, nil
}

// explain says why there is no answer, and what to do.
func (g *gateway) explain(err error) error {
	where := "the admin endpoint " + g.address
	_, dialing := errors.AsType[*net.OpError](err)
	dns, unknown := errors.AsType[*net.DNSError](err)
	timeout, timed := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return cannotAsk("nothing listens on %s: Caddy is not running, or has its admin endpoint elsewhere or off. See that it runs, and name the endpoint with --address, or the configuration with --config", where)
	case errors.Is(err, fs.ErrPermission):
		return cannotAsk("this user may not use %s: run the command as the user that runs Caddy", where)
	case unknown:
		return cannotAsk("the name %q of %s is not known: correct it", dns.Name, where)
	case timed && timeout.Timeout():
		return cannotAsk("%s does not answer within %v: see whether Caddy hangs, or a firewall is between", where, askTimeout)
	case dialing:
		return cannotAsk("%s cannot be reached: %v", where, errors.Unwrap(err))
	}
	return g.foreign()
}

// foreign is the error for an answer that is not the gateway's.
func (g *gateway) foreign() error {
	return cannotAsk("what answers on %s is no Caddy with caddy-cvs, or an older version of it: name the right admin endpoint with --address, or use the program that runs", g.address)
}

// ask sends a request, and returns the body of an answer that has a member.
func (g *gateway) ask(ctx context.Context, method, uri string, in any, member string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	response, err := g.request(ctx, method, uri, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if err := g.refusal(response); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, g.explain(err)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(answer, &members) != nil || members[member] == nil {
		return nil, g.foreign()
	}
	return answer, nil
}

// refusal returns the error that an answer has, nil if it has none.
func (g *gateway) refusal(response *http.Response) error {
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var in struct {
		Error string `json:"error"`
	}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	err := json.NewDecoder(io.LimitReader(response.Body, maxRequest)).Decode(&in)
	switch {
	case mediaType != strict.JSON || err != nil || in.Error == "":
		return g.foreign()
	case response.StatusCode == http.StatusForbidden:
		return cannotAsk("the admin endpoint %s refuses this command (%s): use the address that its configuration has, with --address or --config", g.address, in.Error)
	}
	return fmt.Errorf("the gateway says: %s", in.Error)
}
