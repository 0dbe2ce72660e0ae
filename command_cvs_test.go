package caddycvs

// This file holds tests of the command caddy cvs against admin endpoints that answer as they are told.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// ran is what a command has written, and its exit code.
type ran struct {
	out, errors string
	code        int
}

// runCvs runs caddy cvs.
func runCvs(t *testing.T, args ...string) ran {
	t.Helper()
	return runCvsUntil(t.Context(), args...)
}

func runCvsUntil(ctx context.Context, args ...string) ran {
	root := &cobra.Command{Use: "caddy", SilenceUsage: true}
	cvs := &cobra.Command{Use: "cvs"}
	addCvsCommands(cvs)
	root.AddCommand(cvs)
	var out, errors bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errors)
	root.SetArgs(append([]string{"cvs"}, args...))
	err := root.ExecuteContext(ctx)
	code := 0
	if err != nil {
		code = 1
		if strings.HasPrefix(fmt.Sprintf("%T", err), "*caddycmd.exitError") { // of which Caddy's main asks
			code = 2
		}
	}
	return ran{out.String(), errors.String(), code}
}

// answering is an admin endpoint that answers every request alike, and notes the last one.
type adminServer struct {
	address string
	request string
	body    string
}

func serveAdmin(t *testing.T, status int, contentType, body string) *adminServer {
	t.Helper()
	a := new(adminServer)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		a.request, a.body = r.Method+" "+r.URL.String(), string(sent)
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	a.address = gatewaytest.Host(server.URL)
	return a
}

const jsonType = "application/json"

func TestCvsHelp(t *testing.T) {
	t.Parallel()
	help := runCvs(t)
	assert.Equal(t, 0, help.code)
	for _, command := range cvsCommands {
		cmd := command()
		assert.Contains(t, help.out, cmd.Short)
		assert.NotEmpty(t, cmd.Long)
		assert.Contains(t, cmd.Example, "$ caddy cvs "+cmd.Name())
		assert.Contains(t, runCvs(t, cmd.Name(), "--help").out, cmd.Example)
		for _, flag := range []string{"address", "config", "adapter"} {
			assert.Equal(t, !cmd.HasSubCommands(), cmd.Flags().Lookup(flag) != nil, cmd.Name())
		}
	}
	unknown := runCvs(t, "statu")
	assert.Equal(t, 1, unknown.code)
	assert.Contains(t, unknown.errors, `there is no command caddy cvs "statu": did you mean status?`)
	assert.Contains(t, runCvs(t, "__complete").errors, "there is no command")
}

// runCompletion returns what the shell gets for a command line that ends in a space.
func runCompletion(t *testing.T, words string) string {
	t.Helper()
	root := &cobra.Command{Use: "caddy"}
	cvs := &cobra.Command{Use: "cvs"}
	addCvsCommands(cvs)
	root.AddCommand(cvs)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(append(append([]string{"__complete", "cvs"}, strings.Fields(words)...), ""))
	require.NoError(t, root.Execute())
	return out.String()
}

func TestCvsCompletesStates(t *testing.T) {
	t.Parallel()
	assert.Contains(t, runCompletion(t, "barcodes --state"), "pending\nwaiting\nasked\nissued\nvoid\nexpired\nfailed\npaid\nrefunded\n")
}

// For a flag that takes no file, the shell does not offer the files of the directory.
func TestCvsCompletesNoFiles(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"check --address", "trigger confirm --order", "trigger confirm --account", "trigger confirm --to", "trigger paid --amount", "status --address", "retry --order"} {
		assert.Contains(t, runCompletion(t, words), ":4\n", words)
	}
	for _, words := range []string{"check --adapter", "trigger expired --adapter", "backup --adapter"} {
		assert.Equal(t, "caddyfile\n:4\n", runCompletion(t, words), words)
	}
	assert.Contains(t, runCompletion(t, "check --config"), ":0\n", "which is a file")
}

// Each way in which the gateway cannot be asked has its own sentence.
func TestCvsSaysWhyItCannotAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	hello, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = hello.Close() })
	go func() {
		for {
			c, err := hello.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
			_ = c.Close()
		}
	}()
	const foreign = "is no Caddy with caddy-cvs, or an older version of it"
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"down":           {[]string{"--address", gatewaytest.Address(t)}, "Caddy is not running, or has its admin endpoint elsewhere or off"},
		"no socket":      {[]string{"--address", "unix/" + filepath.Join(dir, "no.sock")}, "nothing listens on the admin endpoint unix/"},
		"off":            {[]string{"--config", write("Caddyfile", "{\n\tadmin off\n}\n")}, "the admin endpoint is off in " + dir},
		"no config":      {[]string{"--config", filepath.Join(dir, "none")}, "reading the configuration"},
		"both":           {[]string{"--config", "x", "--address", "y"}, "use one of them"},
		"adapter alone":  {[]string{"--adapter", "caddyfile"}, "name the configuration file, too"},
		"URL":            {[]string{"--address", "http://localhost:2019"}, "write it as localhost:2019"},
		"no address":     {[]string{"--address", "localhost:1-9"}, "is no address of an admin endpoint"},
		"unset variable": {[]string{"--address", "{env.CVS_TEST_UNSET}"}, "Set it for this command, too"},
		"descriptor":     {[]string{"--address", "fd/3"}, "has a socket of the service manager"},
		"another server": {[]string{"--address", serveAdmin(t, 200, "text/html", "<html>").address}, foreign},
		"other JSON":     {[]string{"--address", serveAdmin(t, 200, jsonType, `{"ok":true}`).address}, foreign},
		"404":            {[]string{"--address", serveAdmin(t, 404, "text/plain", "404 page not found\n").address}, foreign},
		"redirect":       {[]string{"--address", serveAdmin(t, 302, "text/html", "").address}, foreign},
		"another port":   {[]string{"--address", hello.Addr().String()}, foreign},
		"refused":        {[]string{"--address", serveAdmin(t, 403, jsonType, `{"error":"host not allowed"}`).address}, "refuses this command (host not allowed)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range [][]string{{"status"}, {"barcodes"}, {"retry", "--all"}, {"backup", filepath.Join(t.TempDir(), "x.db")}} {
				if name == "other JSON" && command[0] == "backup" {
					continue
				}
				got := runCvs(t, append(command, test.args...)...)
				assert.Equal(t, 2, got.code, command)
				assert.Contains(t, got.errors, test.want, command)
				assert.Empty(t, got.out)
				assert.Equal(t, 1, strings.Count(got.errors, "Error:"))
			}
		})
	}
}

func TestCvsSaysWhatTheGatewayRefuses(t *testing.T) {
	t.Parallel()
	a := serveAdmin(t, 503, jsonType, `{"error":"the ledger is down"}`)
	for _, command := range [][]string{{"status"}, {"barcodes"}, {"retry", "--all"}, {"backup", filepath.Join(t.TempDir(), "x.db")}} {
		got := runCvs(t, append(command, "--address", a.address)...)
		assert.Equal(t, 1, got.code)
		assert.Equal(t, "Error: the gateway says: the ledger is down\n", got.errors)
	}
}

func TestCvsUsesASocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(gatewaytest.ShortDir(t), "admin.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Origin"))
		_, _ = io.WriteString(w, `{"retried":0}`)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	for _, address := range []string{"unix/" + socket, "unix/" + socket + "|0222"} {
		assert.Equal(t, ran{out: "{\"retried\":0}"}, runCvs(t, "retry", "--all", "--json", "--address", address))
	}
	config := filepath.Join(t.TempDir(), "caddy.json")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`{"admin":{"listen":%q}}`, "unix/"+socket+"|0222")), 0o600))
	assert.Equal(t, 0, runCvs(t, "retry", "--all", "--config", config).code)
}

// The check asks the admin endpoint as the other commands do, and no other Caddy where there is none.
func TestCheckAsksTheAdminEndpoint(t *testing.T) {
	t.Parallel()
	const status = `{"ledger":{"store":"file","state":"degraded"}}`
	socket := filepath.Join(gatewaytest.ShortDir(t), "admin.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		_, _ = io.WriteString(w, status)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	config := fmt.Sprintf(`{"admin":{"listen":%q}}`, "unix/"+socket+"|0222")
	body, err := new(checkCommand).askAdmin([]byte(config), "caddy.json")(t.Context(), "/cvs/status")
	require.NoError(t, err)
	assert.JSONEq(t, status, string(body))
	off := []byte(`{"admin":{"disabled":true}}`)
	_, err = new(checkCommand).askAdmin(off, "caddy.json")(t.Context(), "/cvs/status")
	require.EqualError(t, err, "admin is off")
	body, err = (&checkCommand{address: "unix/" + socket}).askAdmin(off, "caddy.json")(t.Context(), "/cvs/status")
	require.NoError(t, err)
	assert.JSONEq(t, status, string(body))
}

func TestCvsStatus(t *testing.T) {
	t.Parallel()
	const calm = `{"accounts":[{"name":"","token":"none","in_use":false}],"total":1,"failing":0,
		"ledger":{"store":"file","state":"up","since":"2026-11-20T23:00:01Z","pending":1,"waiting":0},"handlers":{"cvs_proxy":{"calls":{"ok":5,"failed":1}}},"since":"2026-11-20T23:00:00Z"}`
	a := serveAdmin(t, 200, jsonType, calm)
	got := runCvs(t, "status", "--address", a.address)
	assert.Equal(t, 0, got.code)
	assert.Equal(t, "GET /cvs/status", a.request)
	for _, want := range []string{"account    (unnamed)  token none\n", ", pending 1, waiting 0\n", "cvs_proxy  calls      failed 1, ok 5\n", "\nNothing is wrong.\n"} {
		assert.Contains(t, got.out, want)
	}
	assert.Equal(t, ran{out: calm}, runCvs(t, "status", "--json", "--address", a.address))

	ill := fmt.Sprintf(`{"accounts":[{"name":"가게","token":"valid","valid_until":"2026-11-27T05:31:07Z","clock_offset":-3,"in_use":true},
		{"name":"second","token":"failed","in_use":true,"last_error":{"at":"2026-11-27T04:58:12Z","cause":"credentials"}},
		{"name":"third","token":"failed","in_use":true,"last_error":{"at":"2026-11-27T04:58:12Z","cause":"timeout"}}],"total":150,"failing":9,
		"ledger":{"store":"postgres","state":"degraded","cause":"no\u001b[2J connection","pending":3,"waiting":2,"at_least":true,"oldest_pending":%q},"handlers":{},"since":"2026-11-20T23:00:00Z"}`, time.Now().Add(-2*time.Hour).Format(time.RFC3339))
	a = serveAdmin(t, 200, jsonType, ill)
	got = runCvs(t, "status", "--failed", "--address", a.address)
	assert.Equal(t, 1, got.code)
	assert.Equal(t, "GET /cvs/status?token=failed", a.request)
	assert.Empty(t, got.errors)
	assert.NotContains(t, got.out, "\x1b")
	for _, want := range []string{
		"account  second    token failed\n", "account  가게      token valid, valid until 2026-11-27 ", ", clock -3 s\n", "account            and 147 more\n",
		"pending at least 3, waiting at least 2\n", "- account second gets no access token (credentials, last at 2026-11-2", "compare imp_key and imp_secret",
		"- account third gets no access token (timeout", "whether PortOne has an outage", "- 7 more accounts get no access token: caddy cvs status --failed\n",
		"- the ledger cannot be used (\"no\\x1b[2J connection\")", "- 2 orders wait for a person: caddy cvs barcodes --state waiting", "- the shop's app has not heard of an order since 2026",
	} {
		assert.Contains(t, got.out, want)
	}
	assert.Less(t, strings.Index(got.out, "third"), strings.Index(got.out, "가게"), "those that fail come first")
	assert.Equal(t, ran{out: ill, code: 1}, runCvs(t, "status", "--json", "--address", a.address))
	slow := &ledgerView{State: ledgerSlow}
	assert.Contains(t, strings.Join(slow.advice(time.Now()), ""), "does not answer in time")
}

func TestCvsStatusOfManyAccounts(t *testing.T) {
	t.Parallel()
	v := &statusView{Total: 300, Failing: 40}
	for i := range 40 {
		v.Accounts = append(v.Accounts, accountView{Name: fmt.Sprint("shop", i), Token: tokenFailed})
	}
	var out bytes.Buffer
	advice := v.advice(time.Now())
	require.NoError(t, v.print(&out, advice))
	assert.Len(t, advice, maxReasons+1)
	assert.Contains(t, out.String(), "and 280 more\n")
	assert.Contains(t, out.String(), "- 30 more accounts get no access token")
}

// pages serves orders in pages of a size, as the admin endpoint does.
func pages(t *testing.T, orders []string, size int) *adminServer {
	t.Helper()
	a := new(adminServer)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.request = r.URL.String()
		list := barcodeList{Waiting: 2, Pending: 7}
		at := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
		for _, order := range orders {
			if "second/"+order <= r.URL.Query().Get("after") {
				continue
			}
			if len(list.Barcodes) == size {
				list.Next = "second/" + list.Barcodes[size-1].MerchantUID
				break
			}
			list.Barcodes = append(list.Barcodes, orderView{
				Account: "second", MerchantUID: order, State: "paid", Attempts: []attemptView{{State: "void"}, {State: "paid", Amount: "15000", ImpUID: "imp_1", Asked: &at}},
				Telling: &tellingView{Cause: "status 404", Waiting: &at},
			})
		}
		w.Header().Set("Content-Type", jsonType)
		assert.NoError(t, json.NewEncoder(w).Encode(list))
	}))
	t.Cleanup(server.Close)
	a.address = gatewaytest.Host(server.URL)
	return a
}

func TestCvsBarcodes(t *testing.T) {
	t.Parallel()
	a := pages(t, []string{"a1", "a2", "a3", "주문 4", "주문-5"}, 2)
	listed := func(args ...string) string {
		t.Helper()
		got := runCvs(t, append(append([]string{"barcodes"}, args...), "--address", a.address)...)
		assert.Equal(t, 0, got.code, got.errors)
		return got.out
	}
	all := listed("--state", "waiting")
	assert.Regexp(t, `^ORDER   ACCOUNT  STATE  AMOUNT  IMP_UID  ASKED +PAID  TELLING  LAST ANSWER
a1      second   paid   15000   imp_1    2026-01-3\d \S+ \S+  -     waiting  status 404
(.*\n){2}주문 4  second .*
주문-5  second .*

5 shown. In all, 7 pending and 2 waiting for a person.
Remove the cause, then: caddy cvs retry --all
$`, all)
	for limit := 1; limit <= 4; limit++ {
		out := listed("--limit", fmt.Sprint(limit))
		assert.Contains(t, out, fmt.Sprintf("\n%d shown.", limit))
		next := map[int]string{1: "second/a1", 2: "second/a2", 3: "second/a3", 4: "'second/주문 4'"}[limit]
		assert.Contains(t, out, "--after "+next+"\n")
		rest := listed("--limit", "100", "--after", strings.Trim(next, "'"))
		assert.Contains(t, rest, fmt.Sprintf("\n%d shown.", 5-limit))
		assert.NotContains(t, rest, "There are more")
	}
	listed("--order", "주문 4&x=1", "--since", "2026-01-31T09:00:00+09:00")
	assert.Contains(t, a.request, "order=%EC%A3%BC%EB%AC%B8+4%26x%3D1&since=2026-01-31T09%3A00%3A00%2B09%3A00")
	assert.True(t, strings.HasPrefix(listed("--json", "--after", "second/a3"), `{"barcodes":[{"account":"second","merchant_uid":"주문 4"`))
	empty := serveAdmin(t, 200, jsonType, `{"barcodes":[],"waiting":0,"pending":0}`)
	assert.Equal(t, "There is no such order.\n\n0 shown. In all, 0 pending and 0 waiting for a person.\n", runCvs(t, "barcodes", "--address", empty.address).out)
	for want, args := range map[string][]string{
		"--order needs a value":         {"--order", ""},
		"--limit must be at least 1":    {"--limit", "0"},
		"--json prints one page":        {"--json", "--limit", "3"},
		"unknown command":               {"order-1"},
		"invalid argument \"x\" for \"": {"--limit", "x"},
	} {
		got := runCvs(t, append([]string{"barcodes", "--address", a.address}, args...)...)
		assert.Equal(t, 1, got.code)
		assert.Contains(t, got.errors, want)
	}
}

// An order number is anything that an app sends.
func TestCvsTableIsAligned(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "주문  b\nab    c\n\u1100\u1161    d\n", aligned([][]string{{"주문", "b"}, {"ab", "c"}, {"\u1100\u1161", "d"}}), "decomposed Hangul is as wide as composed one")
	assert.Equal(t, `"a\x1b[31m"`, printable("a\x1b[31m"))
	assert.Equal(t, `"a\nb"`, printable("a\nb"))
	assert.Equal(t, `" a"`, printable(" a"))
	assert.Equal(t, "주문-1", printable("주문-1"))
	assert.Equal(t, `'it'\''s'`, shellQuoted("it's"))
	assert.Equal(t, `''`, shellQuoted(""))
}

func TestCvsRetry(t *testing.T) {
	t.Parallel()
	some, none := serveAdmin(t, 200, jsonType, `{"retried":5}`), serveAdmin(t, 200, jsonType, `{"retried":0}`)
	got := runCvs(t, "retry", "--order", "주문-1", "--account", "second", "--accept-amount", "--address", some.address)
	assert.Equal(t, ran{out: "5 orders are told again. caddy cvs barcodes --state pending shows how that goes.\n"}, got)
	assert.Equal(t, "POST /cvs/retry", some.request)
	assert.JSONEq(t, `{"account":"second","order":"주문-1","accept_amount":true,"all":false}`, some.body)
	assert.Equal(t, 0, runCvs(t, "retry", "--all", "--address", some.address).code)
	assert.JSONEq(t, `{"account":"","order":"","accept_amount":false,"all":true}`, some.body)
	assert.Equal(t, ran{out: "No order waits for a person: nothing is to be told again.\n"}, runCvs(t, "retry", "--all", "--address", none.address))
	got = runCvs(t, "retry", "--order", "주문 1", "--address", none.address)
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.out, "The order 주문 1 of account (unnamed) does not wait for a person: nothing is told again. See it with: caddy cvs barcodes --order '주문 1'\n")
	for _, args := range [][]string{{}, {"--all", "--order", "x"}, {"--all", "--accept-amount"}, {"--account", "second"}, {"order-1"}} {
		got := runCvs(t, append([]string{"retry", "--address", some.address}, args...)...)
		assert.Equal(t, 1, got.code, args)
		assert.NotEmpty(t, got.errors)
	}
}
