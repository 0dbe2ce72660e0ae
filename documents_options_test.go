package caddycvs

// This file holds the tests that keep the reference's tables of options from drifting: the options of each block, their
// defaults and limits are those that the parser and the handlers have.

import (
	"cmp"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// documentedOption is a row of a table of options.
type documentedOption struct{ name, value, standard string }

// documentedOptions returns the rows of a block's table. The block account takes those of the global option that stand
// before it.
func documentedOptions(t *testing.T, block string) (options []documentedOption) {
	t.Helper()
	table := block
	if block == "account" {
		table = "cvs"
	}
	for _, row := range tableRows(t, "options "+table) {
		require.Len(t, row, 4, "%s: %v", block, row)
		require.Len(t, words(row[0]), 1, "%s: %v", block, row)
		assert.NotEmpty(t, row[3], "%s: %v", block, row)
		if row[0] == "`account`" && block == "account" {
			break
		}
		options = append(options, documentedOption{words(row[0])[0], row[1], row[2]})
	}
	return options
}

// The parser itself lists the options that a block accepts.
func TestReferenceHasTheOptionsOfEachBlock(t *testing.T) {
	t.Parallel()
	for block := range blockTests {
		var names []string
		for _, option := range documentedOptions(t, block) {
			names = append(names, option.name)
		}
		assert.ElementsMatch(t, optionsOf(t, block), names, block)
	}
}

var listed = regexp.MustCompile(`is none of: ([a-z, A-Z]+)$`)

// What an option takes is what its row in blockTests says, which the parser is tested by.
func TestReferenceSaysWhatOptionsTake(t *testing.T) {
	t.Parallel()
	for block, about := range blockTests {
		for _, option := range documentedOptions(t, block) {
			test, name := about.options[option.name], block+" "+option.name
			assert.Equal(t, test.repeatable, strings.Contains(option.value, "repeatable"), "%s may be given twice", name)
			assert.Equal(t, test.takes == noArgument && !test.opensBlock, option.value == "no value", "%s takes a value", name)
			assert.Equal(t, test.takes == oneOrMoreArguments, regexp.MustCompile(`\bone\b.*\bor more\b|\bone or more\b`).MatchString(option.value), "%s takes several values", name)
			for _, message := range test.rejects {
				if list := listed.FindStringSubmatch(message); list != nil {
					assert.Equal(t, strings.Split(list[1], ", "), words(option.value), name)
				}
			}
		}
	}
}

// loads are configurations that load: a block with what it requires, and OPTIONS in place of further options.
func loads(block string) (config string, required map[string]string) {
	const account = "imp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}\n"
	config = blockTests[block].caddyfile
	switch block {
	case "cvs":
		required = map[string]string{"imp_key": "imp_key {env.CVS_TEST_KEY}", "imp_secret": "imp_secret {env.CVS_TEST_SECRET}"}
	case "ledger", "metrics":
		config = strings.Replace(config, "cvs {\n", "cvs {\n"+account, 1)
	case "account":
		required = map[string]string{"imp_key": "imp_key {env.CVS_TEST_SECOND_KEY}", "imp_secret": "imp_secret {env.CVS_TEST_SECRET}"}
	case "cvs_confirm":
		required = map[string]string{"order_check": "order_check http://127.0.0.1:3000/payable"}
	case "cvs_notice":
		required = map[string]string{"tell": "tell http://127.0.0.1:3000/payments"}
	}
	if !strings.HasPrefix(config, "{") {
		config = "{\ncvs {\n" + account + "}\n}\n" + config
	}
	return strings.Replace(config, "OPTIONS", strings.Join(slices.Sorted(maps.Values(required)), "\n")+"\nOPTIONS", 1), required
}

// load provisions a configuration, as far as Caddy does before it starts it.
func load(t *testing.T, config string) error {
	t.Helper()
	adapted, _, err := gatewaytest.AdaptCaddyfile(strings.Replace(config, "OPTIONS", "", 1))
	if err != nil {
		return err
	}
	cfg := new(caddy.Config)
	require.NoError(t, caddy.StrictUnmarshalJSON(adapted, cfg))
	_, err = gatewaytest.Provision(cfg)
	return err
}

func TestReferenceSaysWhatIsRequired(t *testing.T) {
	t.Parallel()
	for block := range blockTests {
		config, required := loads(block)
		require.NoError(t, load(t, config), block)
		for _, option := range documentedOptions(t, block) {
			line, must := required[option.name]
			assert.Equal(t, must, option.standard == "required", "%s %s", block, option.name)
			if must {
				assert.Error(t, load(t, strings.Replace(config, line, "", 1)), "%s without %s", block, option.name)
			}
		}
	}
}

// The ways in which the reference states a limit.
var (
	least    = regexp.MustCompile("at least `?([0-9][0-9a-zA-Z]*)")
	most     = regexp.MustCompile("at most `?([0-9][0-9a-zA-Z]*)")
	fromTo   = regexp.MustCompile("from `?([0-9][0-9a-z]*)`? to `?([0-9][0-9a-z]*)")
	numberOf = regexp.MustCompile(`(\d+)(?: to (\d+))? (?:letters|characters)`)
)

// shifted returns a duration, a number or a size that is a little more or less.
func shifted(t *testing.T, text string, by int) string {
	t.Helper()
	if n, err := strconv.Atoi(text); err == nil {
		return strconv.Itoa(n + by)
	}
	if d, err := caddy.ParseDuration(text); err == nil {
		return (d + time.Duration(by)).String()
	}
	size, err := humanize.ParseBytes(text)
	require.NoError(t, err)
	return strconv.FormatUint(size+uint64(by), 10)
}

// limits returns the values at the limits of an option, and those just beyond.
func (o *documentedOption) limits(t *testing.T) (valid, beyond []string) {
	t.Helper()
	length := func(count string) string {
		n, err := strconv.Atoi(count)
		require.NoError(t, err)
		return strings.Repeat("k", n)
	}
	if strings.Contains(o.value, "secret") {
		if match := regexp.MustCompile(`at least (\d+) characters`).FindStringSubmatch(o.value); match != nil {
			secret := strings.ReplaceAll(length(match[1]), "k", "s") // not a part of an account's name, which is no secret
			return []string{gatewaytest.Placeholder(t, secret)}, []string{gatewaytest.Placeholder(t, secret[1:])}
		}
		return nil, nil
	}
	for _, match := range least.FindAllStringSubmatch(o.value, -1) {
		valid, beyond = append(valid, match[1]), append(beyond, shifted(t, match[1], -1))
	}
	for _, match := range most.FindAllStringSubmatch(o.value, -1) {
		valid, beyond = append(valid, match[1]), append(beyond, shifted(t, match[1], 1))
	}
	for _, match := range fromTo.FindAllStringSubmatch(o.value, -1) {
		valid, beyond = append(valid, match[1], match[2]), append(beyond, shifted(t, match[1], -1), shifted(t, match[2], 1))
	}
	for _, match := range numberOf.FindAllStringSubmatch(o.value, -1) {
		longest := cmp.Or(match[2], match[1])
		valid, beyond = append(valid, length(match[1]), length(longest)), append(beyond, length(longest)+"k")
	}
	return valid, beyond
}

// blockOf is what an option needs behind its value.
var blockOf = map[string]string{"account": " {\nimp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECRET}\n}"}

func TestReferenceStatesTheLimitsOfOptions(t *testing.T) {
	t.Parallel()
	stated := 0
	for block := range blockTests {
		config, _ := loads(block)
		for _, option := range documentedOptions(t, block) {
			behind := ""
			if block == "cvs" {
				behind = blockOf[option.name]
			}
			valid, beyond := option.limits(t)
			stated += len(beyond)
			for _, value := range valid {
				assert.NoError(t, load(t, strings.Replace(config, "OPTIONS", option.name+" "+value+behind, 1)), "%s: %s %s", block, option.name, value)
			}
			for _, value := range beyond {
				assert.Error(t, load(t, strings.Replace(config, "OPTIONS", option.name+" "+value+behind, 1)), "%s: %s %s", block, option.name, value)
			}
		}
	}
	assert.Equal(t, 26, stated)
}

// defaults returns what each block is without options, once it is provisioned.
func defaults(t *testing.T) map[string]any {
	t.Helper()
	const account = "{\ncvs {\nimp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}\n}\n}\n"
	blocks := map[string]any{
		"cvs": &App{}, "metrics": &Metrics{}, "ledger": &Ledger{}, "cvs_proxy": &Proxy{},
		"cvs_confirm": &Confirm{OrderChecks: []*OrderCheck{{URL: "http://127.0.0.1:3000/payable"}}},
		"cvs_notice":  &Notice{Tell: &Tell{URL: "http://127.0.0.1:3000/payments"}},
		"cvs_barcode": &Barcode{}, "cvs_sandbox": &Sandbox{},
	}
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, account), func(ctx caddy.Context) {
		for _, block := range []string{"cvs_proxy", "cvs_confirm", "cvs_notice", "cvs_barcode", "cvs_sandbox"} {
			require.NoError(t, blocks[block].(caddy.Provisioner).Provision(ctx), block)
		}
	})
	_, _, err := blocks["ledger"].(*Ledger).provision()
	require.NoError(t, err)
	blocks["account"] = &Account{API: client.DefaultAPI, Timeout: caddy.Duration(client.DefaultTimeout)} // add fills these in
	blocks["cvs"].(*App).Account = *blocks["account"].(*Account)
	blocks["order_check"], blocks["tell"] = blocks["cvs_confirm"].(*Confirm).OrderChecks[0], blocks["cvs_notice"].(*Notice).Tell
	used := blocks["cvs_sandbox"].(*Sandbox).pooled
	blocks["cvs_sandbox"] = &Sandbox{Webhooks: used.webhooks, Channel: used.channel, Fractions: used.fractions, CancelNotices: used.cancelNotices, Notices: used.notices}
	check := blocks["order_check"].(*OrderCheck)
	for status := 200; status < 300; status++ { // what accepts decides without a value
		if new(OrderCheck).accepts(status) {
			check.Accept = append(check.Accept, strconv.Itoa(status))
		}
	}
	return blocks
}

// texts returns an option's value as the reference writes it, nil for none.
func texts(v reflect.Value) (list []string) {
	switch value := v.Interface().(type) {
	case caddy.Duration:
		list = []string{time.Duration(value).String()}
	case int64:
		list = []string{strconv.FormatInt(value, 10)}
	case int:
		list = []string{strconv.Itoa(value)}
	case []caddy.Duration:
		for _, d := range value {
			list = append(list, time.Duration(d).String())
		}
	case []string:
		list = value
	case string:
		list = []string{value}
	case bool:
		list = []string{"on"}
	}
	if v.IsZero() {
		return nil
	}
	return list
}

// documentedTexts are the values of a default in the form of texts.
func documentedTexts(t *testing.T, standard string, like reflect.Type) (list []string) {
	t.Helper()
	for _, text := range words(standard) {
		switch like {
		case reflect.TypeFor[caddy.Duration](), reflect.TypeFor[[]caddy.Duration]():
			d, err := caddy.ParseDuration(text)
			require.NoError(t, err)
			text = d.String()
		case reflect.TypeFor[int64]():
			size, err := humanize.ParseBytes(text)
			require.NoError(t, err)
			text = strconv.FormatUint(size, 10)
		}
		list = append(list, text)
	}
	return list
}

// A default without a word in code, such as "off", "required" or "the unnamed account", is the zero value.
func TestReferenceStatesTheDefaultsOfOptions(t *testing.T) {
	t.Parallel()
	blocks := defaults(t)
	for block := range blockTests {
		fields := fieldsByName(reflect.ValueOf(blocks[block]).Elem())
		for _, option := range documentedOptions(t, block) {
			name := cmp.Or(jsonPlurals[block+"."+option.name], option.name)
			field, has := fields[name]
			require.True(t, has, "%s %s", block, name)
			switch {
			case name == "transport": // loadTransport makes one of reverse_proxy's own default
				assert.Equal(t, []string{"http"}, words(option.standard))
				continue
			case option.standard == "required":
				continue
			case name == "signing_key": // signingKeys takes imp_secret
				assert.Equal(t, "derived from `imp_secret`", option.standard)
				continue
			}
			assert.Equal(t, texts(field), documentedTexts(t, option.standard, field.Type()), "%s %s", block, option.name)
			assert.Equal(t, field.Kind() == reflect.Bool, option.standard == "off", "%s %s", block, option.name)
		}
	}
}

// fieldsByName returns the exported fields of a struct by their JSON names.
func fieldsByName(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value)
	for _, field := range reflect.VisibleFields(v.Type()) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			fields[name] = v.FieldByIndex(field.Index)
		}
	}
	return fields
}
