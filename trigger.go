package caddycvs

// This file holds what `caddy cvs trigger` reads of a configuration, and the confirm webhook and the test
// tells that it sends. Nothing is provisioned or opened: other parts of the configuration may need what only
// the gateway's user can read.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

const (
	testImpUID      = "imp_test_"            // begins the number of a payment that does not exist
	testBarcode     = "00000000000000000000" // of no payment
	triggerLifetime = 10 * time.Minute       // of a signed webhook
	triggerTimeout  = 15 * time.Second       // for its answer; the sender waits 5 to 10 seconds
	defaultAmount   = "1000"                 // of a test tell
	runAsCaddy      = "run this command as the user that runs Caddy, and with the same environment"
)

// triggerConfig is what is read of a configuration.
type triggerConfig struct {
	app     *App
	proxies []*Proxy
	notices []*Notice
}

func readTriggerConfig(adapted []byte) (*triggerConfig, error) {
	c := new(triggerConfig)
	apps := gjson.GetBytes(adapted, "apps")
	raw := apps.Get("cvs").Raw
	if raw == "" {
		return nil, errors.New("the configuration has no global option cvs: name another one with --config")
	}
	if err := json.Unmarshal([]byte(raw), &c.app); err != nil || c.app == nil {
		return nil, errors.New("the global option cvs cannot be read: see what caddy validate says")
	}
	return c, c.collect(apps.Get("http"))
}

// collect finds the handlers at any depth.
func (c *triggerConfig) collect(v gjson.Result) (err error) {
	if !v.IsObject() && !v.IsArray() {
		return nil
	}
	switch v.Get("handler").Str {
	case "cvs_proxy":
		c.proxies = append(c.proxies, new(Proxy))
		err = json.Unmarshal([]byte(v.Raw), c.proxies[len(c.proxies)-1])
	case "cvs_notice":
		c.notices = append(c.notices, new(Notice))
		err = json.Unmarshal([]byte(v.Raw), c.notices[len(c.notices)-1])
	}
	if err != nil {
		return fmt.Errorf("reading the configuration of %s: %w", v.Get("handler").Str, err)
	}
	v.ForEach(func(_, inner gjson.Result) bool {
		err = c.collect(inner)
		return err == nil
	})
	return err
}

// account returns the configuration of an account.
func (c *triggerConfig) account(name string) (*Account, error) {
	named := strings.Join(slices.Sorted(maps.Keys(c.app.Accounts)), ", ")
	acc, ok := c.app.Accounts[name]
	switch {
	case name == "" && (!c.app.Account.empty() || named == ""):
		return &c.app.Account, nil
	case name == "":
		return nil, errors.New("there is no unnamed account: name one with --account: " + named)
	case !ok && named == "":
		return nil, fmt.Errorf("there is no account %q: leave --account out", name)
	case !ok:
		return nil, fmt.Errorf("there is no account %q, there are: %s", name, named)
	case acc == nil:
		return new(Account), nil
	}
	return acc, nil
}

// signingKeys returns the keys of an account, as the gateway expands them.
func (c *triggerConfig) signingKeys(name string) (keys signedurl.Keys, err error) {
	acc, err := c.account(name)
	if err != nil {
		return keys, err
	}
	secret := ""
	if len(acc.SigningKey) == 0 {
		secret, err = resolveSecret("imp_secret", acc.ImpSecret)
	}
	if err == nil {
		keys, err = signingKeys(acc.SigningKey, secret)
	}
	if err != nil {
		return keys, fmt.Errorf("the webhook cannot be signed: %w; %s", err, runAsCaddy)
	}
	return keys, nil
}

// confirmURL returns the confirm_url of an account's cvs_proxy.
func (c *triggerConfig) confirmURL(account string) (*signedurl.Base, error) {
	found := ""
	for _, p := range c.proxies {
		if p.Account != account || p.ConfirmURL == "" {
			continue
		}
		if found != "" && found != p.ConfirmURL {
			return nil, errors.New("the account has several confirm_url: name one with --to")
		}
		found = p.ConfirmURL
	}
	if found == "" {
		return nil, errors.New("no cvs_proxy of the account has a confirm_url: name the URL of cvs_confirm with --to")
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(found, true, true)
	if err != nil {
		return nil, fmt.Errorf("confirm_url: %w; %s", err, runAsCaddy)
	}
	base, err := signedurl.ParseBase(text)
	if err != nil {
		return nil, fmt.Errorf("confirm_url: %w", err)
	}
	return base, nil
}

// notice returns the cvs_notice of an account.
func (c *triggerConfig) notice(account string) (*Notice, error) {
	if _, err := c.account(account); err != nil {
		return nil, err
	}
	for _, n := range c.notices {
		if n.Account == account && n.Tell != nil {
			return n, nil
		}
	}
	return nil, errors.New("the account has no cvs_notice with a tell: the shop is not told of anything")
}

// triggered is what was sent, what was answered, and what it means.
type triggered struct {
	Request struct {
		Method string            `json:"method"`
		URL    string            `json:"url"`
		Header map[string]string `json:"header"`
		Body   string            `json:"body"`
	} `json:"request"`
	Answer  *triggeredAnswer `json:"answer"` // null for none
	Verdict string           `json:"verdict"`
	Meaning string           `json:"meaning"`
	Notes   []string         `json:"notes,omitempty"`

	good bool
}

type triggeredAnswer struct {
	Status      int    `json:"status"`
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
}

// trigger is what a command is to send.
type trigger struct{ order, amount, account, impUID, to string }

// confirmBody is a confirm webhook as it is documented.
func (t *trigger) confirmBody() ([]byte, error) {
	body, err := json.Marshal(map[string]any{
		"event": webhook.EventConfirm, "imp_uid": t.impUID, "merchant_uid": t.order, "status": webhook.StatusReady,
		"extra": map[string]string{"barcode": testBarcode, "payType": "card"},
	})
	if err != nil {
		return nil, err
	}
	if _, err := webhook.ParseConfirm(strict.JSON, body); err != nil {
		return nil, fmt.Errorf("cvs_confirm takes no such webhook: %w: --order is the merchant_uid, --imp-uid the imp_uid", err)
	}
	return body, nil
}

// confirm sends a genuine confirm webhook.
func (t *trigger) confirm(ctx context.Context, c *triggerConfig) (*triggered, error) {
	body, err := t.confirmBody()
	if err != nil {
		return nil, err
	}
	keys, err := c.signingKeys(t.account)
	if err != nil {
		return nil, err
	}
	var base *signedurl.Base
	if t.to == "" {
		base, err = c.confirmURL(t.account)
	} else if base, err = signedurl.ParseBase(t.to); err != nil {
		err = fmt.Errorf("--to: %w", err)
	}
	if err != nil {
		return nil, err
	}
	// The id is of no attempt that the ledger knows. So the ledger neither refuses nor notes anything.
	signed, err := base.Sign(keys, signedurl.Confirm, t.order, signedurl.Claims{
		Account: t.account, Amount: t.amount, Expires: time.Now().Add(triggerLifetime).Unix(), ID: signedurl.NewID(),
	})
	if err != nil {
		return nil, err
	}
	return sendConfirm(ctx, signed, body)
}

func sendConfirm(ctx context.Context, signed string, body []byte) (*triggered, error) {
	ctx, cancel := context.WithTimeout(ctx, triggerTimeout)
	defer cancel()
	r, err := newWebhook(ctx, signed, body)
	if err != nil {
		return nil, err
	}
	result := new(triggered)
	result.setRequest(shownConfirmURL(r.URL), r.Header, body)
	transport := &http.Transport{DisableKeepAlives: true} // without a proxy of the environment, as the sender
	resp, err := transport.RoundTrip(r)                   // follows no redirect
	if err != nil {
		result.Verdict, result.Meaning = unanswered, "there is no answer ("+client.Cause(err)+"), so the till refuses: check that Caddy runs, and the address"
		return result, nil
	}
	defer resp.Body.Close()
	content, _ := io.ReadAll(io.LimitReader(resp.Body, maxCheckAnswer))
	result.Answer = &triggeredAnswer{resp.StatusCode, resp.Header.Get("Content-Type"), string(content)}
	result.judgeConfirm(resp.StatusCode, content)
	return result, nil
}

// shownConfirmURL is the URL without the value of the signature, and without parameters of its own.
func shownConfirmURL(u *url.URL) string {
	query := u.RawQuery[strings.Index(u.RawQuery, "cvs_amount="):]
	query, _, _ = strings.Cut(query, "&cvs_sig=")
	return u.Scheme + "://" + u.Host + u.EscapedPath() + "?" + query + "&cvs_sig=" + hidden
}

func (r *triggered) setRequest(shownURL string, header http.Header, body []byte) {
	r.Request.Method, r.Request.URL, r.Request.Body = http.MethodPost, shownURL, string(body)
	r.Request.Header = make(map[string]string, len(header))
	for name := range header {
		r.Request.Header[name] = header.Get(name)
	}
}

// judgeConfirm says what the answer to a confirm webhook means at the till.
func (r *triggered) judgeConfirm(status int, body []byte) {
	said := gjson.GetBytes(body, "accepted")
	own := gjson.ValidBytes(body) && said.IsBool()
	r.Verdict = refused
	switch {
	case status == http.StatusOK && own && said.Bool():
		r.Verdict, r.good = accepted, true
		r.Meaning = "the till would accept: every order check said yes"
	case status == http.StatusOK:
		r.Verdict = accepted
		r.Meaning = "the till would accept, but it is not cvs_confirm that answered, and nobody asked the shop: check that the URL leads to cvs_confirm"
	case !own:
		r.Meaning = "the till would refuse, but it is not cvs_confirm that answered: check the URL, and what stands before Caddy"
	case status == http.StatusForbidden:
		r.Meaning = "cvs_confirm does not believe the webhook: it has other keys than this configuration, another account, or an allow without the address of this machine; its log names the rule"
	case status == http.StatusNotFound:
		r.Meaning = "Caddy has no cvs_confirm at this path: compare it with confirm_url"
	case status == http.StatusGone:
		r.Meaning = "for the gateway the deadline of the webhook has passed: synchronize the clocks of this machine and of the gateway"
	case status >= http.StatusInternalServerError:
		r.Verdict = unanswered
		r.Meaning = "the till would refuse, because the order could not be checked: the log line \"confirm webhook\" names the check and the cause"
	default:
		r.Meaning = "the till would refuse: an order check said no; the log line \"confirm webhook\" names it"
	}
}

// message is what cvs_notice would tell of the order.
func (t *trigger) message(event tell.Event, now time.Time) *tell.Message {
	m := &tell.Message{
		Account: t.account, ImpUID: t.impUID, MerchantUID: t.order, Event: event, Status: string(event), Amount: t.amount,
		CancelAmount: "0", Expires: now.Add(time.Hour).Unix(), Test: true,
	}
	switch event {
	case tell.Paid:
		m.PaidAt = now.Unix()
	case tell.Cancelled:
		m.PaidAt, m.CancelAmount, m.CancellationID = now.Add(-time.Hour).Unix(), t.amount, "test_"+signedurl.NewID()
	case tell.Expired:
		m.Status, m.Expires = string(client.StatusCancelled), now.Add(-time.Hour).Unix() // a barcode is voided before the shop is told
	}
	return m
}

// tell tells the shop's app once, as cvs_notice would.
func (t *trigger) tell(ctx context.Context, caddyCtx caddy.Context, n *Notice, event tell.Event) (*triggered, error) {
	if err := n.Tell.provision(caddyCtx); err != nil {
		return nil, fmt.Errorf("tell: %w; %s", err, runAsCaddy)
	}
	m := t.message(event, time.Now())
	x := n.Tell.exchange(ctx, m)
	if x.request == nil {
		return nil, fmt.Errorf("the order cannot be told: %s: choose another --order", x.reply.Cause)
	}
	result := new(triggered)
	result.setRequest(n.Tell.shownURL(m), x.request.Header, x.body)
	for _, name := range append(slices.Collect(maps.Keys(n.Tell.Header)), "Webhook-Signature") {
		if name = http.CanonicalHeaderKey(name); result.Request.Header[name] != "" {
			result.Request.Header[name] = hidden
		}
	}
	if x.status != 0 {
		result.Answer = &triggeredAnswer{x.status, x.contentType, string(x.answer)}
	}
	result.judgeTell(x.reply)
	if n.Tell.secrets == nil {
		result.Notes = append(result.Notes, "the message is not signed, because tell has no secret: the shop cannot know who sent it")
	}
	if n.Events != nil && !slices.Contains(n.Events, string(event)) {
		result.Notes = append(result.Notes, fmt.Sprintf("cvs_notice does not tell %s: see its option events", event))
	}
	return result, nil
}

var cvsPlaceholder = regexp.MustCompile(`\{http\.cvs\.[a-z_]+\}`)

// shownURL is the configured URL with the order's values. Other placeholders stay as they are written: they
// may stand for a secret.
func (t *Tell) shownURL(m *tell.Message) string {
	return cvsPlaceholder.ReplaceAllStringFunc(t.URL, func(name string) string {
		value, _ := messageRecord(m).placeholder(strings.Trim(name, "{}"))
		text, _ := value.(string)
		return url.PathEscape(text)
	})
}

// judgeTell says what the shop's answer means.
func (r *triggered) judgeTell(reply ledger.Reply) {
	r.Verdict = told[reply.Verdict]
	switch reply.Verdict {
	case ledger.Heard:
		r.good = true
		r.Meaning = "the shop counts as having heard: cvs_notice would not tell it again"
	case ledger.Refused:
		r.Meaning = "the shop does not count as having heard (" + reply.Cause + "): cvs_notice would tell this order again, at the intervals, and then leave it to a person"
		r.Notes = append(r.Notes, "there is no such payment: a shop should verify the signature, and then ignore a message whose test is true and answer as if it had heard")
	case ledger.Unheard, ledger.Withdrawn:
		r.Meaning = "the shop does not count as having heard (" + reply.Cause + "): cvs_notice would hold back what it has to tell, and try until the shop answers"
	}
}

// validAmount returns an amount in the form in which it is signed.
func validAmount(text string) (string, error) {
	amount, ok := decimal.Canonical(text)
	if !ok || amount == "0" || strings.HasPrefix(amount, "-") {
		return "", errors.New("--amount must be an amount in won, such as 15000")
	}
	return amount, nil
}
