package caddycvs

// This file holds broken set-ups that `caddy cvs check` finds without the network, each one change away from a
// good one, with its exact sentence.

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// goodSetup is a set-up in which nothing is found. LEDGER and DIR are replaced.
const goodSetup = `{
	cvs {
		imp_key {env.CVS_TEST_KEY}
		imp_secret {env.CVS_TEST_SECRET}
		ledger LEDGER
	}
}
http://:8081 {
	bind 127.0.0.1
	cvs_proxy {
		pg galaxia
		confirm_url https://shop.example/cvs/confirm
		notice_url https://shop.example/cvs/notice
		expires_in 72h
	}
	respond 404
}
shop.example {
	cvs_confirm /cvs/confirm {
		order_check http://127.0.0.1:3000/payable {
			amount total
		}
	}
	cvs_notice /cvs/notice {
		tell http://127.0.0.1:3000/paid {
			require heard true
			secret {env.CVS_TEST_NOTICE_SECRET}
		}
	}
	reverse_proxy 127.0.0.1:3000
}
`

// secondAccount is an option of the global option cvs.
const secondAccount = "ledger LEDGER\n account second {\n imp_key {env.CVS_TEST_SECOND_KEY}\n imp_secret {env.CVS_TEST_SECOND_SECRET}\n }"

// change replaces parts of the good set-up, which must have them.
func change(t *testing.T, pairs ...string) string {
	t.Helper()
	config := goodSetup
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, config, pairs[i])
		config = strings.Replace(config, pairs[i], pairs[i+1], 1)
	}
	return config
}

// inspected returns what is found in a Caddyfile without the network.
func inspected(t *testing.T, config, dir string) *report {
	t.Helper()
	config = strings.NewReplacer("LEDGER", filepath.Join(dir, "cvs.db"), "DIR", dir).Replace(config)
	adapted, _, err := gatewaytest.AdaptCaddyfile(config)
	if err != nil {
		return brokenConfig("Caddyfile", err)
	}
	s, err := loadSetup(adapted, gatewaytest.Provision)
	if err != nil {
		return brokenConfig("Caddyfile", err)
	}
	return s.inspect()
}

// sentences are the findings as the command prints them.
func sentences(r *report, dir string) (list []string) {
	for _, f := range r.Findings {
		list = append(list, strings.ReplaceAll(f.Severity+": "+f.String(), dir, "DIR"))
	}
	return list
}

// brokenSetups are set-ups with one fault each, or two where one has the other for its consequence.
var brokenSetups = []struct {
	name     string
	change   []string
	expected []string
}{
	{
		"no confirm_url",
		[]string{"confirm_url https://shop.example/cvs/confirm", ""},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081: has no confirm_url: a barcode that is issued without one is paid at the till without asking the shop: set confirm_url to the public address of cvs_confirm"},
	},
	{
		"no expires_in",
		[]string{"expires_in 72h", ""},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081: has no expires_in: the gateway does not know until when a barcode can be paid whose request has no expired_at: set expires_in, such as 72h"},
	},
	{
		"confirm_url on loopback",
		[]string{"confirm_url https://shop.example", "confirm_url http://127.0.0.1"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: 127.0.0.1 is at a host that PortOne cannot reach: no webhook will come: use the shop's public address"},
	},
	{
		"confirm_url at a private address",
		[]string{"confirm_url https://shop.example", "confirm_url https://192.168.0.10"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: 192.168.0.10 is at a host that PortOne cannot reach: no webhook will come: use the shop's public address"},
	},
	{
		"confirm_url at a name of the local network",
		[]string{"confirm_url https://shop.example", "confirm_url https://caddy.internal"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: caddy.internal is at a host that PortOne cannot reach: no webhook will come: use the shop's public address"},
	},
	{
		"confirm_url by http",
		[]string{"confirm_url https://", "confirm_url http://"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: is http at a public host: a redirect to https, which Caddy makes by itself, loses the webhook, because its sender follows none: use https"},
	},
	{
		"notice_url on loopback",
		[]string{"notice_url https://shop.example", "notice_url http://localhost:3000"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, notice_url: localhost:3000 is at a host that PortOne cannot reach: no webhook will come: use the shop's public address"},
	},
	{
		"notice_url by http",
		[]string{"notice_url https://", "notice_url http://"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, notice_url: is http at a public host: a redirect to https, which Caddy makes by itself, loses the webhook, because its sender follows none: use https"},
	},
	{
		"confirm_url at a path that no cvs_confirm takes",
		[]string{"confirm_url https://shop.example/cvs/confirm", "confirm_url https://shop.example/cvs/confrim"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: no cvs_confirm of shop.example takes the path /cvs/confrim: use one path for both, such as /cvs/confirm"},
	},
	{
		"notice_url at the path of cvs_confirm",
		[]string{"notice_url https://shop.example/cvs/notice", "notice_url https://shop.example/cvs/confirm"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, notice_url: no cvs_notice of shop.example takes the path /cvs/confirm: use one path for both, such as /cvs/notice"},
	},
	{
		"confirm_url at another host",
		[]string{"confirm_url https://shop.example", "confirm_url https://www.shop.example"},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081, confirm_url: no site of this configuration with a cvs_confirm has the host www.shop.example: correct the host, unless another Caddy has that site"},
	},
	{
		"confirm_url of another account",
		[]string{"ledger LEDGER", secondAccount, "cvs_confirm /cvs/confirm {", "cvs_confirm /cvs/confirm {\n account second"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: leads to a cvs_confirm of another account than the unnamed account, which refuses its webhooks: set the option account of both to the same name"},
	},
	{
		"cvs_proxy open to the internet",
		[]string{"bind 127.0.0.1\n", "", "cvs_proxy {", "cvs_proxy {\n allow 0.0.0.0/0"},
		[]string{"error: cvs_proxy at :8081: listens at :8081, allows public addresses and asks for no password: strangers can issue and void barcodes with the merchant's keys: bind it to 127.0.0.1 or a private address, or allow the app's own addresses only, behind basic_auth"},
	},
	{
		"cvs_proxy open to a public range by IPv6",
		[]string{"bind 127.0.0.1\n", "", "cvs_proxy {", "cvs_proxy {\n allow private_ranges 2001:db8::/32"},
		[]string{"error: cvs_proxy at :8081: listens at :8081, allows public addresses and asks for no password: strangers can issue and void barcodes with the merchant's keys: bind it to 127.0.0.1 or a private address, or allow the app's own addresses only, behind basic_auth"},
	},
	{
		"cvs_proxy listens on all addresses",
		[]string{"bind 127.0.0.1\n", ""},
		[]string{"warning: cvs_proxy at :8081: listens at :8081, with neither allow nor a password: behind a proxy or a NAT that hides the client, strangers look like private addresses: bind it to 127.0.0.1 or a private address, or write with allow who may call"},
	},
	{
		"cvs_proxy listens on a public address",
		[]string{"bind 127.0.0.1\n", "bind 203.0.113.7\n"},
		[]string{"warning: cvs_proxy at 203.0.113.7:8081: listens at 203.0.113.7:8081, with neither allow nor a password: behind a proxy or a NAT that hides the client, strangers look like private addresses: bind it to 127.0.0.1 or a private address, or write with allow who may call"},
	},
	{
		"cvs_proxy for one host",
		[]string{"http://:8081", "http://gateway.example:8081"},
		[]string{"warning: cvs_proxy at gateway.example: a call with another Host than gateway.example gets an empty 200, which many apps take for success: listen by port only, as http://:8081 with bind 127.0.0.1"},
	},
	{
		"the second cvs_proxy of a port has no expires_in",
		[]string{"	cvs_proxy {", "	handle_path /second/* {\n cvs_proxy {\n confirm_url https://shop.example/cvs/confirm\n notice_url https://shop.example/cvs/notice\n }\n }\n cvs_proxy {"},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081/second/*: has no expires_in: the gateway does not know until when a barcode can be paid whose request has no expired_at: set expires_in, such as 72h"},
	},
	{
		"cvs_proxy lets the app pay back",
		[]string{"cvs_proxy {", "cvs_proxy {\n serve all"},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081: serve all lets every app that may call pay back payments: name the calls that the app needs, such as serve POST /payments/prepare"},
	},
	{
		"trusted proxies are everybody",
		[]string{"	cvs {", "	servers {\n trusted_proxies static 0.0.0.0/0\n trusted_proxies_strict\n }\n	cvs {"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081: trusted_proxies trusts a large part of the internet: whoever sends X-Forwarded-For passes for an allowed address: name the addresses of your own proxies only"},
	},
	{
		"trusted proxies without strict, before allow",
		[]string{"	cvs {", "	servers {\n trusted_proxies static private_ranges\n }\n	cvs {", "cvs_confirm /cvs/confirm {", "cvs_confirm /cvs/confirm {\n allow portone"},
		[]string{"warning: cvs_confirm at shop.example/cvs/confirm: allow with trusted_proxies, but without trusted_proxies_strict: the client's address is the first one of X-Forwarded-For, which the client may have written: add trusted_proxies_strict to the global option servers"},
	},
	{
		"unsigned webhooks are believed",
		[]string{"cvs_confirm /cvs/confirm {", "cvs_confirm /cvs/confirm {\n unsigned allow"},
		[]string{"error: cvs_confirm at shop.example/cvs/confirm: unsigned allow believes a webhook that anybody can write: use unsigned lookup, which asks PortOne, or reject"},
	},
	{
		"silence accepts",
		[]string{"cvs_confirm /cvs/confirm {", "cvs_confirm /cvs/confirm {\n on_error accept"},
		[]string{"warning: cvs_confirm at shop.example/cvs/confirm: on_error accept accepts a payment when the shop does not answer, also for goods that are sold out: use on_error reject"},
	},
	{
		"a check without a condition",
		[]string{"amount total", ""},
		[]string{"warning: cvs_confirm at shop.example/cvs/confirm, order_check 1: has no condition: every answer with an accepted status is a yes, even an error page or the page of another site: add require or amount"},
	},
	{
		"the second check has no condition",
		[]string{"cvs_confirm /cvs/confirm {", "cvs_confirm /cvs/confirm {\n order_check http://127.0.0.1:3000/stock {\n name stock\n }"},
		[]string{"warning: cvs_confirm at shop.example/cvs/confirm, order_check stock: has no condition: every answer with an accepted status is a yes, even an error page or the page of another site: add require or amount"},
	},
	{
		"a check longer than the decision",
		[]string{"amount total", "amount total\n timeout 5s"},
		[]string{"warning: cvs_confirm at shop.example/cvs/confirm, order_check 1: its timeout is longer than that of cvs_confirm, which ends it before: make timeout of order_check shorter, or that of cvs_confirm longer, at most 10s"},
	},
	{
		"a rewrite before cvs_confirm",
		[]string{"cvs_confirm /cvs/confirm {", "route {\n rewrite * /index.php\n cvs_confirm /cvs/confirm {", "cvs_notice", "}\n cvs_notice"},
		[]string{"error: cvs_confirm at shop.example/cvs/confirm: a rewrite, method or try_files stands before it, so that webhooks go to another path and another handler may accept them: write cvs_confirm outside of route, or before the rewrite"},
	},
	{
		"try_files before cvs_confirm",
		[]string{"cvs_confirm /cvs/confirm {", "route {\n try_files {path} /index.php\n cvs_confirm /cvs/confirm {", "cvs_notice", "}\n cvs_notice"},
		[]string{"error: cvs_confirm at shop.example/cvs/confirm: a rewrite, method or try_files stands before it, so that webhooks go to another path and another handler may accept them: write cvs_confirm outside of route, or before the rewrite"},
	},
	{
		"a password before cvs_confirm",
		[]string{"cvs_confirm /cvs/confirm {", "route {\n basic_auth {\n a $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n }\n cvs_confirm /cvs/confirm {", "cvs_notice", "}\n cvs_notice"},
		[]string{"error: cvs_confirm at shop.example/cvs/confirm: a password or forward_auth stands before it, which the sender of webhooks does not have: write cvs_confirm outside of route, or before it"},
	},
	{
		"a site that ends in an empty 200",
		[]string{"	reverse_proxy 127.0.0.1:3000\n", ""},
		[]string{"error: the site shop.example: a request that no route of this site answers gets an empty 200, which the sender of a confirm webhook takes for acceptable: end the site with a directive that answers everything, such as respond 404"},
	},
	{
		"a webhook for an unknown Host",
		[]string{"shop.example {", "http://shop.example {"},
		[]string{"error: the server at :80: a webhook for a Host that no site of this server has gets an empty 200, which its sender takes for acceptable: listen by port only, as http://:8080, or add a site for every Host with respond 404"},
	},
	{
		"a tell without require",
		[]string{"require heard true", ""},
		[]string{"warning: cvs_notice at shop.example/cvs/notice, tell: has no require: every answer with an accepted status that is no page counts as heard, even that of another site: add require, such as require heard true"},
	},
	{
		"a tell without a secret",
		[]string{"secret {env.CVS_TEST_NOTICE_SECRET}", ""},
		[]string{"warning: cvs_notice at shop.example/cvs/notice, tell: has no secret: the app cannot tell whether it is the gateway that says that an order is paid: add secret, such as secret {env.CVS_TELL_SECRET}, and verify it in the app"},
	},
	{
		"notice_url without cvs_notice",
		[]string{"	cvs_notice /cvs/notice {\n		tell http://127.0.0.1:3000/paid {\n			require heard true\n			secret {env.CVS_TEST_NOTICE_SECRET}\n		}\n	}\n", ""},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081, notice_url: no cvs_notice of this configuration takes the notices of the unnamed account: add cvs_notice to the public site, unless another Caddy or the app takes them"},
	},
	{
		"notice_url of another account than cvs_notice",
		[]string{"ledger LEDGER", secondAccount, "cvs_notice /cvs/notice {", "cvs_notice /cvs/notice {\n account second"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081, notice_url: leads to a cvs_notice of another account than the unnamed account, which refuses its webhooks: set the option account of both to the same name"},
	},
	{
		"cvs_notice without notice_url",
		[]string{"notice_url https://shop.example/cvs/notice", ""},
		[]string{"warning: cvs_proxy at 127.0.0.1:8081: has no notice_url, although there is a cvs_notice: a paid order is told late, by look-ups and the sweep only: set notice_url to the public address of cvs_notice"},
	},
	{
		"cvs_notice with repeat pass",
		[]string{"cvs_proxy {", "cvs_proxy {\n repeat pass"},
		[]string{"error: cvs_proxy at 127.0.0.1:8081: repeat pass issues barcodes that the ledger does not know: without a signed notice of a payment, cvs_notice never tells it: use repeat reuse"},
	},
	{
		"a grace period that is too short",
		[]string{"	cvs {", "	grace_period 1s\n	cvs {"},
		[]string{"warning: the global option grace_period: 1s is shorter than the timeout of cvs_confirm at shop.example/cvs/confirm, 4s: at a reload or a stop a till may get no answer, and the customer cannot pay: set grace_period to 5s or more, and the service manager's time to stop above it"},
	},
	{
		"nobody can read the metrics",
		[]string{"	cvs {", "	admin off\n	cvs {"},
		[]string{"warning: the global option admin: admin is off, and no site has the directive metrics: nobody is warned when tokens, confirms or tells fail: remove admin off, or add metrics to a site that only you can reach"},
	},
	{
		"two accounts with one key",
		[]string{"ledger LEDGER", strings.ReplaceAll(secondAccount, "SECOND_", "")},
		[]string{"warning: account second: has the imp_key of the unnamed account, and no tier of its own: both issue barcodes for one merchant: correct the placeholder, or use one account"},
	},
	{
		"the API by http",
		[]string{"ledger LEDGER", "ledger LEDGER\n api http://api.iamport.kr"},
		[]string{"error: the unnamed account: api is http at a public host, so that everybody on the way can read the keys: use https"},
	},
	{
		"a secret file that everybody can read",
		[]string{"{env.CVS_TEST_SECRET}", "{file.DIR/secret}"},
		[]string{"error: DIR/secret: every user of this machine can read the file of a secret (mode 0644): chmod 640, with the group of the user that runs Caddy, or 600"},
	},
	{
		"an option that does not exist",
		[]string{"expires_in 72h", "expire_in 72h"},
		[]string{"error: Caddyfile: Caddy cannot load the configuration: parsing caddyfile tokens for 'cvs_proxy': unrecognized option expire_in; there are: account, allow, channel_key, confirm_url, expires_in, max_body, notice_url, pg, repeat, serve, at Caddyfile:14"},
	},
	{
		"a variable that is not set",
		[]string{"{env.CVS_TEST_KEY}", "{env.CVS_TEST_UNSET}"},
		[]string{"error: Caddyfile: Caddy cannot load the configuration: cvs: imp_key: evaluated placeholder {env.CVS_TEST_UNSET} is empty: set the variable, or check that the file can be read"},
	},
	{
		"an account that does not exist",
		[]string{"cvs_proxy {", "cvs_proxy {\n account third"},
		[]string{"error: Caddyfile: Caddy cannot load the configuration: http.handlers.cvs_proxy: account \"third\" is not configured in the global option cvs"},
	},
	{
		"the directory of the ledger is missing",
		[]string{"ledger LEDGER", "ledger DIR/missing/cvs.db"},
		[]string{"error: Caddyfile: Caddy cannot load the configuration: cvs: ledger: the directory of the file is missing: create it, for the user that runs Caddy: stat DIR/missing: no such file or directory"},
	},
	{
		"ledger off with cvs_notice",
		[]string{"ledger LEDGER", "ledger off"},
		[]string{"error: Caddyfile: Caddy cannot load the configuration: http.handlers.cvs_notice: cvs_notice keeps notices in the ledger: remove ledger off from the global option cvs"},
	},
}

func TestCheckFindsBrokenSetups(t *testing.T) {
	t.Parallel()
	for _, tc := range brokenSetups {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && strings.Contains(tc.name, "secret file") {
				t.Skip("files have no mode on Windows")
			}
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("canary-of-a-file"), 0o600))
			require.NoError(t, os.Chmod(filepath.Join(dir, "secret"), 0o644)) // #nosec G302 -- that is the fault
			require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))            // #nosec G302 -- testing closes it to others
			found := sentences(inspected(t, change(t, tc.change...), dir), dir)
			assert.Equal(t, tc.expected, found)
		})
	}
}

// goodSetups are set-ups in which nothing is found.
var goodSetups = map[string][]string{
	"as it stands": nil,
	"a sandbox on this machine": {
		"ledger LEDGER", "ledger LEDGER\n api http://127.0.0.1:8480", "confirm_url https://shop.example", "confirm_url http://127.0.0.1:8082",
		"notice_url https://shop.example", "notice_url http://127.0.0.1:8082", "shop.example {", "http://:8082 {",
	},
	"Cloudflare in front, which names one address": {
		"	cvs {", "	servers {\n trusted_proxies static 173.245.48.0/20 103.21.244.0/22\n client_ip_headers CF-Connecting-IP\n }\n	cvs {",
		"cvs_confirm /cvs/confirm {", "cvs_confirm /cvs/confirm {\n allow portone",
	},
	"a tell with a key in a header field": {"secret {env.CVS_TEST_NOTICE_SECRET}", "header X-Internal-Key {env.CVS_TEST_SECRET}"},
	"two merchants behind a load balancer": {
		"ledger LEDGER", secondAccount, "	cvs {", "	servers {\n trusted_proxies static 10.0.0.0/8\n trusted_proxies_strict\n }\n	cvs {",
		"cvs_proxy {", "cvs_proxy {\n account second", "cvs_notice /cvs/notice {", "cvs_notice /cvs/notice {\n account second",
	},
	"cvs_proxy behind a password": {
		"bind 127.0.0.1\n", "", "	cvs_proxy {", "	basic_auth {\n a $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n }\n	cvs_proxy {\n allow 0.0.0.0/0",
	},
	"cvs_proxy for named private addresses on all addresses": {"bind 127.0.0.1\n", "", "cvs_proxy {", "cvs_proxy {\n allow 10.1.2.0/24"},
	"the shop rewrites behind cvs_confirm":                   {"	reverse_proxy", "	try_files {path} /index.php\n	rewrite /old /new\n	reverse_proxy"},
	"cvs_confirm in handle_path": {
		"	cvs_confirm /cvs/confirm {", "	handle_path /cvs/* {\n	cvs_confirm /confirm {", "	cvs_notice", "	}\n	cvs_notice",
	},
	"a check by a route, a password for the admins, a redirect": {
		"order_check http://127.0.0.1:3000/payable {", "order_check {\n route {\n reverse_proxy 127.0.0.1:3000\n }\n", "	reverse_proxy 127.0.0.1:3000\n}",
		"	basic_auth /admin/* {\n a $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n }\n	redir /old /new\n	reverse_proxy 127.0.0.1:3000\n}",
	},
	"metrics on a site, without admin": {"	cvs {", "	admin off\n	cvs {", "	respond 404", "	metrics /metrics\n	respond 404"},
	"a tier of the agency's account":   {"ledger LEDGER", strings.ReplaceAll(strings.ReplaceAll(secondAccount, "SECOND_", ""), "second {", "second {\n tier 002") + "\n account third {\n imp_key {env.CVS_TEST_SECOND_KEY}\n imp_secret {env.CVS_TEST_SECOND_SECRET}\n }"},
}

func TestCheckFindsNothingInGoodSetups(t *testing.T) {
	t.Parallel()
	for name, pairs := range goodSetups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			found := inspected(t, change(t, pairs...), dir)
			assert.Empty(t, sentences(found, dir))
			assert.NotEmpty(t, found.OK)
		})
	}
}

// Others cannot reach a file in a directory that is closed to them, and nobody else is in a container.
func TestCheckKnowsWhichSecretFilesAreKept(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode on Windows")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // #nosec G302 -- testing closes it to others
	open, closed := filepath.Join(dir, "open"), filepath.Join(dir, "closed")
	require.NoError(t, os.MkdirAll(filepath.Join(open, "deeper"), 0o755)) // #nosec G301 -- that is the fault
	require.NoError(t, os.MkdirAll(filepath.Join(closed, "deeper"), 0o750))
	assert.False(t, isKept(filepath.Join(open, "deeper", "secret")))
	assert.True(t, isKept(filepath.Join(closed, "secret")))
	assert.True(t, isKept(filepath.Join(closed, "deeper", "secret")))
	assert.True(t, isKept("/run/secrets/imp_key"))
	assert.False(t, isKept("/run/secrets.txt"))
}
