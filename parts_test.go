package caddycvs

// This file holds tests with other programs: php-fpm behind Caddy, nginx and HAProxy in front
// of it. CI installs them, and fails if one is missing. Elsewhere a test without its program
// is skipped.

import (
	"bytes"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// program returns the path of a program, or skips the test if it is missing. Debian puts a
// version into the name of php-fpm.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if found, _ := filepath.Glob(filepath.Join(dir, name+"*")); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skip(name + " is not installed")
	return ""
}

// runPart runs a program until the test ends, and waits until it accepts connections.
func runPart(t *testing.T, network, address string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() })
	require.Eventually(t, func() bool {
		conn, err := net.Dial(network, address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond, "%s does not serve %s", command[0], address)
}

// phpFPM starts php-fpm, and returns its socket.
func phpFPM(t *testing.T) string {
	t.Helper()
	fpm, dir := program(t, "php-fpm"), gatewaytest.ShortDir(t)
	socket := filepath.Join(dir, "php-fpm.sock")
	conf := "[global]\nerror_log = " + dir + "/error.log\n[shop]\nlisten = " + socket + "\nlisten.mode = 0666\npm = static\npm.max_children = 4\nphp_admin_flag[display_errors] = on\nphp_admin_value[error_log] = " + dir + "/php.log\n"
	if os.Geteuid() == 0 {
		conf += "user = root\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fpm.conf"), []byte(conf), 0o600))
	runPart(t, "unix", socket, fpm, "--nodaemonize", "--allow-to-run-as-root", "--fpm-config", filepath.Join(dir, "fpm.conf"), "-n")
	return socket
}

// The example of a PHP shop, as it is shipped, works with a real php-fpm.
func TestPHPExampleWorksWithFPM(t *testing.T) {
	t.Parallel()
	socket, root := phpFPM(t), t.TempDir()
	for _, name := range []string{"confirm.php", "payment.php"} {
		script, err := os.ReadFile("testdata/php/" + name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(root, name), script, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "index.php"), []byte("<h1>the shop</h1>"), 0o600))
	g := startExample(t, "php-shop", map[string]string{
		"/srv/shop/public": root, "unix//run/php/php-fpm.sock": "unix/" + socket, "8082": port(gatewaytest.Address(t)),
		"require heard true\n\t\t}": "require heard true\n\t\t}\n\t\tintervals 100ms",
	})
	for order, want := range map[string]struct {
		status int
		detail string
	}{
		"yes":     {200, `"verdict":"accepted"`},
		"no":      {409, `"cause":"status"`},
		"fatal":   {502, `"cause":"unreadable JSON","detail":"the answer begins like HTML"`},
		"warning": {502, `"cause":"unreadable JSON","detail":"the answer begins like HTML"`},
		"slow":    {504, `"cause":"timed out"`},
	} {
		i := g.MustIssue(t, order)
		began := time.Now()
		a := g.Confirm(t, i)
		assert.Equal(t, want.status, a.Status, "%s: %s", order, a.Body)
		assert.Less(t, time.Since(began), 4*time.Second)
		assert.Contains(t, g.WaitForLine(t, `"msg":"confirm webhook"`, `"merchant_uid":"`+order+`"`), want.detail)
		if order == "no" {
			assert.Equal(t, "품절되었습니다", a.Field(t, "reason"))
		}
		i.ConfirmURL = strings.Replace(i.ConfirmURL, "/cvs/confirm", "/cvs/confrim", 1)
		assert.Equal(t, 404, g.Confirm(t, i).Status, "the front controller answers 200")
	}
	for _, order := range []string{"paid", "again"} { // the second one is told again when its script works
		scan, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: g.MustIssue(t, order).Barcode, PayType: emulator.PayTypeCash})
		require.NoError(t, err)
		require.True(t, scan.Accepted)
		told := filepath.Join(root, "told-"+order)
		require.Eventually(t, func() bool { _, err := os.Stat(told); return err == nil }, 20*time.Second, 10*time.Millisecond)
		content, err := os.ReadFile(told)
		require.NoError(t, err)
		assert.Equal(t, "paid 15000\n", string(content))
	}
	assert.Equal(t, 404, g.Do(t, http.MethodGet, g.Outside+"/payment.php", "", "").Status)
	assert.Equal(t, 404, g.Do(t, http.MethodGet, g.Outside+"/confirm.php", "", "").Status)
	assert.Contains(t, g.Do(t, http.MethodGet, g.Outside+"/", "", "").Body, "the shop")
}

// sendFrom sends a request from one of the addresses of this machine.
func sendFrom(t *testing.T, g *gatewaytest.Gateway, source, method, target, body string, header http.Header) gatewaytest.Answer {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {gatewaytest.JSONType}}
	maps.Copy(r.Header, header)
	other := *g
	other.HTTP = &http.Client{Transport: transport}
	return other.Send(t, r)
}

// shown returns the documents' only code block of a language, with the given texts replaced.
func shown(t *testing.T, language string, with ...string) string {
	t.Helper()
	blocks := fenced(t, language)
	require.Len(t, blocks, 1)
	for i := 0; i < len(with); i += 2 {
		require.Contains(t, blocks[0], with[i])
	}
	return strings.NewReplacer(with...).Replace(blocks[0])
}

// Behind nginx and HAProxy, configured as the documents say, Caddy knows the client. Without
// those options every client would have the proxy's address, and is refused.
func TestProxyKnowsTheClientBehindNginxAndHAProxy(t *testing.T) {
	t.Parallel()
	const (
		client   = "127.0.0.2"
		stranger = "127.0.0.3"
		spoofed  = "X-Forwarded-For"
	)
	nginx := func(t *testing.T, front, caddy string) {
		dir := gatewaytest.ShortDir(t)
		conf := "daemon off;\nmaster_process off;\npid " + dir + "/nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\nclient_body_temp_path " + dir + ";\nproxy_temp_path " + dir + ";\nfastcgi_temp_path " + dir + ";\nuwsgi_temp_path " + dir + ";\nscgi_temp_path " + dir + ";\n" +
			shown(t, "nginx", "listen 443 ssl;", "listen "+front+";", "ssl_certificate /etc/ssl/shop.pem;", "", "ssl_certificate_key /etc/ssl/shop.key;", "", "127.0.0.1:8080", caddy) + "}\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600))
		runPart(t, "tcp", front, program(t, "nginx"), "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	}
	haproxy := func(t *testing.T, front, caddy string) {
		dir := gatewaytest.ShortDir(t)
		conf := "defaults\n\tmode http\n\ttimeout connect 5s\n\ttimeout client 30s\n\ttimeout server 30s\n" +
			shown(t, "haproxy", "bind :443 ssl crt /etc/ssl/shop.pem", "bind "+front, "127.0.0.1:8080", caddy)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(conf), 0o600))
		runPart(t, "tcp", front, program(t, "haproxy"), "-f", filepath.Join(dir, "haproxy.cfg"))
	}
	const (
		believesHeader = "servers BEHIND {\ntrusted_proxies static 127.0.0.1/32\ntrusted_proxies_strict\n}"
		believesPROXY  = "servers BEHIND {\nlistener_wrappers {\nproxy_protocol {\nallow 127.0.0.1/32\n}\n}\n}"
	)
	for name, c := range map[string]struct {
		proxy             func(t *testing.T, front, caddy string)
		needs             string
		globals           string
		allowed, stranger int // of a webhook
	}{
		"nginx":                               {nginx, "nginx", believesHeader, 200, 403},
		"nginx, without trusted_proxies":      {nginx, "nginx", "", 403, 403},
		"HAProxy":                             {haproxy, "haproxy", believesPROXY, 200, 403},
		"HAProxy, without the PROXY protocol": {haproxy, "haproxy", "", 400, 400}, // or HAProxy's own 502, of Caddy's 400
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program(t, c.needs)
			front, behind := gatewaytest.Address(t), gatewaytest.Address(t)
			g := gatewaytest.Start(t, gatewaytest.Setup{
				Globals: strings.Replace(c.globals, "BEHIND", behind, 1),
				Proxy:   "confirm_url http://" + front + "/cvs/confirm",
				Sites:   "http://:" + port(behind) + " {\nbind 127.0.0.1\nlog {\noutput file LOGS\n}\ncvs_confirm /cvs/confirm {\nallow " + client + "\n" + gatewaytest.UsualConfirm + "\n}\nhandle /inside/* {\nuri strip_prefix /inside\ncvs_proxy {\nallow " + client + "\n}\n}\nrespond \"the shop\" 200\n}\n",
			})
			c.proxy(t, front, behind)
			i := g.MustIssue(t, "order-1")
			send := func(source, target, body string, header http.Header) int {
				a := sendFrom(t, g, source, http.MethodPost, target, body, header)
				if a.Status == http.StatusBadGateway && c.allowed == 400 {
					return 400
				}
				return a.Status
			}
			assert.Equal(t, c.allowed, send(client, i.ConfirmURL, i.Webhook(), nil))
			assert.Equal(t, c.stranger, send(stranger, i.ConfirmURL, i.Webhook(), nil))
			assert.Equal(t, c.stranger, send(stranger, i.ConfirmURL, i.Webhook(), http.Header{spoofed: {client}}), "a field that the sender made up")
			for source, want := range map[string]int{client: c.allowed, stranger: c.stranger} {
				assert.Equal(t, want, send(source, "http://"+front+"/inside/users/getToken", "{}", nil), "cvs_proxy, from %s", source)
			}
		})
	}
}

func port(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }
