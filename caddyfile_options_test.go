package caddycvs

// This file holds the table of all options of the Caddyfile's blocks, and the tests
// that use it.

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// arguments is how many arguments an option takes. The tests give it fewer and more.
type arguments int

const (
	ownCount arguments = iota // no fixed number: the row itself has the wrong numbers
	noArgument
	oneArgument
	twoArguments
	oneOrMoreArguments
)

// optionTest is a row of the table: what one option accepts and rejects.
type optionTest struct {
	takes      arguments
	valid      string            // arguments that the option accepts
	rejects    map[string]string // the error for each of the wrong arguments
	opensBlock bool              // the option takes a block: without this, a block must be rejected
	repeatable bool              // the option may be given twice: without this, that must be rejected
}

// blockTest is a block and its options.
type blockTest struct {
	directive string   // that Caddy names in the block's errors
	caddyfile string   // with OPTIONS in place of the block's options
	config    any      // the type that the block fills in
	jsonOnly  []string // fields of the type that are no options
	options   map[string]optionTest
}

// blockTests is the table. An option that is added to a block needs a row here, and
// TestBlocksRejectUnknownOption fails without it.
var blockTests = map[string]blockTest{
	"cvs": {
		directive: "cvs", config: App{}, options: globalOptions(),
		caddyfile: "{\n\tcvs {\n\t\tOPTIONS\n\t}\n}\n",
	},
	"account": {
		directive: "cvs", config: Account{}, options: accountOptions,
		caddyfile: "{\n\tcvs {\n\t\taccount second {\n\t\t\tOPTIONS\n\t\t}\n\t}\n}\n",
	},
	"ledger": {
		directive: "cvs", config: Ledger{}, options: ledgerOptions, jsonOnly: []string{"store", "path", "dsn"},
		caddyfile: "{\n\tcvs {\n\t\tledger {\n\t\t\tOPTIONS\n\t\t}\n\t}\n}\n",
	},
	"metrics": {
		directive: "cvs", config: Metrics{}, options: map[string]optionTest{"per_account": {takes: noArgument}},
		caddyfile: "{\n\tcvs {\n\t\tmetrics {\n\t\t\tOPTIONS\n\t\t}\n\t}\n}\n",
	},
	"cvs_proxy": {
		directive: "cvs_proxy", config: Proxy{}, options: proxyOptions,
		caddyfile: ":8081 {\n\tcvs_proxy {\n\t\tOPTIONS\n\t}\n}\n",
	},
	"cvs_confirm": {
		directive: "cvs_confirm", config: Confirm{}, options: confirmOptions,
		caddyfile: ":8080 {\n\tcvs_confirm /cvs/confirm {\n\t\tOPTIONS\n\t}\n}\n",
	},
	"order_check": {
		directive: "cvs_confirm", config: OrderCheck{}, options: orderCheckOptions, jsonOnly: []string{"url"},
		caddyfile: ":8080 {\n\tcvs_confirm {\n\t\torder_check http://127.0.0.1:3000/payable {\n\t\t\tOPTIONS\n\t\t}\n\t}\n}\n",
	},
	"cvs_notice": {
		directive: "cvs_notice", config: Notice{}, options: noticeOptions,
		caddyfile: ":8080 {\n\tcvs_notice /cvs/notice {\n\t\tOPTIONS\n\t}\n}\n",
	},
	"tell": {
		directive: "cvs_notice", config: Tell{}, options: tellOptions, jsonOnly: []string{"url"},
		caddyfile: ":8080 {\n\tcvs_notice {\n\t\ttell http://127.0.0.1:3000/payments {\n\t\t\tOPTIONS\n\t\t}\n\t}\n}\n",
	},
	"cvs_barcode": {
		directive: "cvs_barcode", config: Barcode{}, options: barcodeOptions,
		caddyfile: ":8080 {\n\tcvs_barcode /barcode/* {\n\t\tOPTIONS\n\t}\n}\n",
	},
	"cvs_sandbox": {
		directive: "cvs_sandbox", config: Sandbox{}, options: sandboxOptions,
		caddyfile: ":8480 {\n\tcvs_sandbox {\n\t\tOPTIONS\n\t}\n}\n",
	},
}

var accountOptions = map[string]optionTest{
	"imp_key":     {takes: oneArgument, valid: "{env.FIXTURE_IMP_KEY}", rejects: wrongSecrets("imp_key")},
	"imp_secret":  {takes: oneArgument, valid: "{env.FIXTURE_IMP_SECRET}", rejects: wrongSecrets("imp_secret")},
	"signing_key": {takes: oneOrMoreArguments, valid: "{env.FIXTURE_SIGNING_KEY}", rejects: mergeMaps(wrongSecrets("signing_key"), map[string]string{`""`: "signing_key is missing: set it to a placeholder such as {env.PORTONE_SIGNING_KEY}"})},
	"api": {takes: oneArgument, valid: "https://api.iamport.kr", rejects: rejectEach(badAddress,
		"api.iamport.kr", "ftp://api.iamport.kr", "http://:8480", "https://user:password@api.iamport.kr", "https://api.iamport.kr/v2", "https://api.iamport.kr?a=b")},
	"tier":    {takes: oneArgument, valid: "001", rejects: rejectEach("tier must be a code of 3 letters or digits", "zero", "0001", "{env.FIXTURE_TIER}")},
	"timeout": {takes: oneArgument, valid: "5s", rejects: wrongDurations},
	"transport": {valid: "http", opensBlock: true, rejects: map[string]string{
		"":           wrongCount("transport"),
		"http extra": "transport http takes no arguments, only a block",
	}},
}

// globalOptions returns the options of the unnamed account and those of the app.
func globalOptions() map[string]optionTest {
	options := maps.Clone(accountOptions)
	options["account"] = optionTest{takes: oneArgument, valid: "second", rejects: wrongAccountNames, opensBlock: true, repeatable: true}
	options["metrics"] = optionTest{takes: noArgument, opensBlock: true}
	options["ledger"] = optionTest{valid: "/var/lib/shop/cvs.db", opensBlock: true, rejects: mergeMaps(wrongPlaces("ledger"),
		rejectEach("ledger takes a path with a slash, such as /var/lib/shop/cvs.db, postgres <dsn>, mysql <dsn> or off", "", "on", "OFF", "cvs.db"),
		map[string]string{
			"off /var/lib/shop/cvs.db":            onePlace("ledger"),
			"off {\nkeep 30d\n}":                  offKeepsNothing,
			"off {\non_down refuse\n}":            offKeepsNothing,
			"off {\nfrom /var/lib/shop/cvs.db\n}": offKeepsNothing,
		},
	)}
	return options
}

const (
	offKeepsNothing = "off keeps nothing: remove path, dsn, keep, on_down and from, or remove off"
	nameTheDatabase = "name the database with its address in a placeholder, such as {env.CVS_DATABASE} or {file./run/secrets/database}"
	addressAsPath   = "this is not the path of a file: write postgres <dsn> or mysql <dsn> for a database, with its address in a placeholder, such as {env.CVS_DATABASE} or {file./run/secrets/database}"
	fromOff         = "from cannot be off: with ledger off nothing was kept; remove from"
	fromNeedsAPath  = "from needs a path, postgres <dsn> or mysql <dsn>: by default the file was cvs/ledger.db in Caddy's data directory, which caddy environ prints as caddy.AppDataDir"
)

func onePlace(option string) string {
	return option + " takes one place: <path>, postgres <dsn> or mysql <dsn>"
}

// wrongPlaces are what an option rejects that names the place of a ledger. No error shows an address.
func wrongPlaces(option string) map[string]string {
	in := ""
	if option == "from" {
		in = "from: "
	}
	rejects := mergeMaps(
		rejectEach(addressAsPath, fixtureSecrets["FIXTURE_POSTGRES"], fixtureSecrets["FIXTURE_MYSQL"], "postgres://{env.FIXTURE_MID}@db.example/cvs",
			"host=h5-91.example user=u5-6b1e password=p5-d07c44", "u6-c2d9:p6-58e0b7@unix(/run/mysqld.sock)/n6-e41b"),
		rejectEach(in+"the path must be absolute, such as /var/lib/shop/cvs.db: a relative one would mean another file when Caddy is started in another directory", "./cvs.db", "data/cvs.db"),
		rejectEach(in+"the path must be that of a file, such as /var/lib/shop/cvs.db, not of a directory", "/", "/var/lib/shop/"),
		map[string]string{
			"postgres":                 in + "postgres needs a dsn: " + nameTheDatabase,
			"mysql":                    in + "mysql needs a dsn: " + nameTheDatabase,
			`mysql ""`:                 in + "mysql needs a dsn: " + nameTheDatabase,
			"/var/lib/shop/cvs.db off": onePlace(option),
			"/var/lib/shop/cvs.db {$FIXTURE_POSTGRES}":       onePlace(option),
			"{$FIXTURE_POSTGRES}":                            addressAsPath,
			"postgres {$FIXTURE_POSTGRES}":                   in + "dsn" + refusedLiteral,
			"mysql {$FIXTURE_MYSQL}":                         in + "dsn" + refusedLiteral,
			"mysql shop-{env.FIXTURE_MYSQL}":                 in + "dsn must be one placeholder such as {env.NAME} or {file./path}, and nothing else",
			"postgres host=h5-91.example password=p5-d07c44": option + " postgres takes one word: the address of the database in a placeholder, such as {env.CVS_DATABASE}; what {$NAME} stands for is split at its spaces",
		},
	)
	for word, name := range map[string]string{"postgresql": "postgres", "Postgres": "postgres", "pg": "postgres", "mariadb": "mysql", "MariaDB": "mysql", "MySQL": "mysql"} {
		message := fmt.Sprintf("%s %s: write %[1]s %[3]s <dsn>", option, word, name)
		rejects[word], rejects[word+" {env.FIXTURE_MYSQL}"], rejects[word+" {$FIXTURE_MYSQL}"] = message, message, message
	}
	return rejects
}

var ledgerOptions = map[string]optionTest{
	"keep":    {takes: oneArgument, valid: "30d", rejects: mergeMaps(wrongDurations, rejectEach(shortKeep, "23h", "10m"))},
	"on_down": {takes: oneArgument, valid: "refuse", rejects: rejectEach(`"VALUE" is none of: issue, refuse`, "reject", "ISSUE")},
	"from": {valid: "/var/lib/shop/cvs.db", rejects: mergeMaps(wrongPlaces("from"),
		rejectEach("from takes a path with a slash, such as /var/lib/shop/cvs.db, postgres <dsn>, mysql <dsn> or off", "", "on", "cvs.db"),
		map[string]string{"": wrongCount("from"), "off": fromOff},
	)},
}

const shortKeep = `keep must be 24h or more: in JSON write it as a text with a unit, such as "120d"; a number is in nanoseconds`

var proxyOptions = map[string]optionTest{
	"account":     {takes: oneArgument, valid: "second", rejects: wrongAccountNames},
	"allow":       {takes: oneOrMoreArguments, valid: "10.0.0.1", rejects: wrongRanges},
	"pg":          {takes: oneArgument, valid: "galaxia", rejects: rejectEach(`pg must be "galaxia" or "galaxia.{merchant id}"`, "kakaopay")},
	"channel_key": {takes: oneArgument, valid: "key"},
	"confirm_url": {takes: oneArgument, valid: "https://shop.example/cvs/confirm", rejects: wrongURLs},
	"notice_url":  {takes: oneArgument, valid: "https://shop.example/cvs/notice", rejects: wrongURLs},
	"expires_in":  {takes: oneArgument, valid: "72h", rejects: wrongDurations},
	"repeat":      {takes: oneArgument, valid: "pass", rejects: rejectEach(`"VALUE" is none of: reuse, pass`, "refuse", "PASS")},
	"serve": {valid: "POST /payments/cancel", repeatable: true, rejects: map[string]string{
		"":     "serve takes a method and paths of the API, such as serve POST /payments/cancel, or all",
		"POST": "serve takes a method and paths of the API, such as serve POST /payments/cancel, or all",
	}},
	"max_body": {takes: oneArgument, valid: "64KB", rejects: rejectEach(`"VALUE" is not a size such as 64KB, at most 1GiB`, "large", "0", "-64KB", "2GiB")},
}

var confirmOptions = map[string]optionTest{
	"account":  {takes: oneArgument, valid: "second", rejects: wrongAccountNames},
	"timeout":  {takes: oneArgument, valid: "2s", rejects: mergeMaps(wrongDurations, rejectEach("timeout must be 100ms to 10s: the sender waits no longer", "99ms", "11s"))},
	"unsigned": {takes: oneArgument, valid: "lookup", rejects: rejectEach(`"VALUE" is none of: lookup, reject, allow`, "accept", "LOOKUP")},
	"on_error": {takes: oneArgument, valid: "reject", rejects: rejectEach(`"VALUE" is none of: reject, accept`, "ignore", "REJECT")},
	"allow":    {takes: oneOrMoreArguments, valid: "portone", rejects: wrongRanges},
	"order_check": {valid: "http://127.0.0.1:3000/a", opensBlock: true, repeatable: true, rejects: map[string]string{
		"http://127.0.0.1:3000/a http://127.0.0.1:3000/b": wrongCount("http://127.0.0.1:3000/b"),
	}},
}

var orderCheckOptions = map[string]optionTest{
	"name":    {takes: oneArgument, valid: "order"},
	"method":  {takes: oneArgument, valid: "GET", rejects: rejectEach(`"VALUE" is none of: POST, GET`, "PUT", "get")},
	"header":  {takes: twoArguments, valid: "X-Internal-Key one", repeatable: true},
	"timeout": {takes: oneArgument, valid: "1s", rejects: wrongDurations},
	"accept":  {takes: oneOrMoreArguments, valid: "200", rejects: rejectEach("accept VALUE: only 200 to 299 and 2xx can mean yes", "any", "301", "4xx", "500")},
	"require": {takes: twoArguments, valid: "stock.available true", repeatable: true},
	"amount":  {takes: oneArgument, valid: "total"},
	"reason":  {takes: oneArgument, valid: "message"},
	"shadow":  {takes: noArgument},
	"route":   {valid: "{\n\trespond 200\n}", opensBlock: true},
}

var noticeOptions = map[string]optionTest{
	"account": {takes: oneArgument, valid: "second", rejects: wrongAccountNames},
	"tell": {valid: "http://127.0.0.1:3000/a", opensBlock: true, rejects: map[string]string{
		"": wrongCount("tell"),
		"http://127.0.0.1:3000/a http://127.0.0.1:3000/b": wrongCount("http://127.0.0.1:3000/b"),
	}},
	"events":      {takes: oneOrMoreArguments, valid: "paid", rejects: rejectEach(`"VALUE" is none of: paid, cancelled, expired`, "", "refunded", "PAID")},
	"retry":       {takes: oneArgument, valid: "72h", rejects: mergeMaps(wrongDurations, rejectEach("retry must be 1s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds", "999ms"))},
	"concurrency": {takes: oneArgument, valid: "4", rejects: rejectEach(`"VALUE" is not a positive number such as 8`, "0", "-1", "many", "1.5")},
	"intervals":   {takes: oneOrMoreArguments, valid: "5s", rejects: mergeMaps(wrongDurations, rejectEach("intervals must be 100ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds", "99ms"))},
	"sweep":       {takes: oneArgument, valid: "5m", rejects: rejectEach(`sweep must be a duration such as 5m, of 1s or more, or off, not "VALUE"`, "on", "0", "-5m", "999ms", "5")},
	"sandbox":     {takes: oneArgument, valid: "allow", rejects: rejectEach(`"VALUE" is none of: reject, allow`, "accept", "ALLOW")},
}

var tellOptions = map[string]optionTest{
	"header":  {takes: twoArguments, valid: "X-Internal-Key one", repeatable: true},
	"timeout": {takes: oneArgument, valid: "1s", rejects: wrongDurations},
	"accept":  {takes: oneOrMoreArguments, valid: "200", rejects: rejectEach("accept VALUE: only 200 to 299 and 2xx can mean yes", "any", "301", "4xx", "500")},
	"require": {takes: twoArguments, valid: "heard true", repeatable: true},
	"as":      {takes: oneArgument, valid: "form", rejects: rejectEach(`"VALUE" is none of: json, form`, "xml", "JSON")},
	"secret":  {takes: oneOrMoreArguments, valid: "{env.FIXTURE_SECRET}", rejects: mergeMaps(wrongSecrets("secret"), map[string]string{`""`: "secret is missing: set it to a placeholder such as {env.PORTONE_SECRET}"})},
}

var barcodeOptions = map[string]optionTest{
	"height": {takes: oneArgument, valid: "120", rejects: rejectEach("height must be a number of pixels from 20 to 500", "tall", "0", "19", "501", "-80", "80px", "99.5", "99999999999999999999", "{env.FIXTURE_HEIGHT}")},
	"scale":  {takes: oneArgument, valid: "4", rejects: rejectEach("scale must be a number of pixels from 1 to 10", "large", "0", "11", "-2", "1.5")},
	"text":   {takes: noArgument},
}

var sandboxOptions = map[string]optionTest{
	"imp_key":        {takes: oneArgument, valid: "{env.FIXTURE_IMP_KEY}", rejects: wrongSecrets("imp_key")},
	"imp_secret":     {takes: oneArgument, valid: "{env.FIXTURE_IMP_SECRET}", rejects: wrongSecrets("imp_secret")},
	"webhooks":       {takes: oneArgument, valid: "any", rejects: rejectEach(`"VALUE" is none of: private, any`, "public", "ANY")},
	"channel":        {takes: oneArgument, valid: "live", rejects: rejectEach(`"VALUE" is none of: test, live`, "real", "LIVE")},
	"fractions":      {takes: oneArgument, valid: "keep", rejects: rejectEach(`"VALUE" is none of: refuse, keep, round`, "cut", "KEEP")},
	"cancel_notices": {takes: noArgument},
	"notices":        {takes: oneArgument, valid: "form", rejects: rejectEach(`"VALUE" is none of: json, form`, "xml", "FORM")},
}

// Values that several options reject, and their errors.
var (
	wrongDurations    = rejectEach(`"VALUE" is not a positive duration such as 500ms, 4s or 72h`, "soon", "0", "0s", "-5s", "10", "{env.FIXTURE_TIMEOUT}")
	wrongAccountNames = rejectEach(`"VALUE" cannot name an account: use 1 to 64 letters, digits, '_' and '-'`, "second!", "the second", "shop.example")
	wrongRanges       = rejectEach(`allow "VALUE": need an IP address, a CIDR range, private_ranges or portone`, "", "10.0.0.0/33", "galaxia", "shop.internal")
	wrongURLs         = mergeMaps(
		rejectEach("need an absolute http or https URL", "/cvs/confirm", "//shop.example/cvs/notice", "shop.example/cvs/confirm", "https://:443/cvs/confirm"),
		rejectEach("need a URL without credentials and fragment", "https://user:password@shop.example/cvs/confirm", "https://shop.example/cvs#confirm"),
		rejectEach("parameters that begin with cvs_ are added when the URL is signed", "https://shop.example/cvs/confirm?cvs_amount=1"),
	)
)

func wrongSecrets(option string) map[string]string {
	return mergeMaps(
		rejectEach(option+refusedLiteral, "1234567890123456", "{$FIXTURE_IMP_KEY}", "{$FIXTURE_IMP_SECRET}",
			"ekKoeW8RyKuT0zgaZsUtXXTLQ4AhPFW3ZGseDA6bkA5lamv9OqDMnxyeB9wqOsuO9W3Mx9YSJ4dTqJ3f"),
		rejectEach(option+" must be one placeholder such as {env.NAME} or {file./path}, and nothing else",
			"shop-{env.FIXTURE_IMP_KEY}", "{env.FIXTURE_IMP_KEY}{env.FIXTURE_SECOND_KEY}", "{env.{env.FIXTURE_NAME}}"),
	)
}

// rejectEach returns the error for each wrong value: the message, with the value in
// place of VALUE.
func rejectEach(message string, values ...string) map[string]string {
	rejects := make(map[string]string)
	for _, value := range values {
		rejects[`"`+value+`"`] = strings.ReplaceAll(message, "VALUE", value)
	}
	return rejects
}

func mergeMaps(all ...map[string]string) map[string]string {
	joined := make(map[string]string)
	for _, rejects := range all {
		maps.Copy(joined, rejects)
	}
	return joined
}

// wrongCount returns Caddy's error for a missing argument after the word, or for the
// word as a surplus argument.
func wrongCount(word string) string {
	return "wrong argument count or unexpected line ending after '" + word + "'"
}

// mistake is something that a block must reject.
type mistake struct {
	lines   string
	at      int // which of the lines the error names; 0 is the first
	message string
}

// mistakes returns the wrong uses of an option: those in its row, and those that follow
// from what it takes.
func (o optionTest) mistakes(name string) []mistake {
	var mistakes []mistake
	for args, message := range o.rejects {
		mistakes = append(mistakes, mistake{name + " " + args, 0, message})
		if o.takes == oneOrMoreArguments { // every value is validated, not only the first
			mistakes = append(mistakes, mistake{name + " " + o.valid + " " + args, 0, message})
		}
	}
	valid := name + " " + o.valid
	first, second, _ := strings.Cut(o.valid, " ")
	switch o.takes {
	case noArgument:
		mistakes = append(mistakes, mistake{name + " surplus", 0, wrongCount("surplus")})
	case oneArgument:
		mistakes = append(mistakes, mistake{name, 0, wrongCount(name)}, mistake{name + ` ""`, 0, name + " is empty"},
			mistake{valid + " surplus", 0, wrongCount("surplus")})
	case twoArguments:
		mistakes = append(mistakes, mistake{name, 0, wrongCount(name)}, mistake{name + " " + first, 0, wrongCount(first)},
			mistake{valid + " surplus", 0, wrongCount(second)})
	case oneOrMoreArguments:
		mistakes = append(mistakes, mistake{name, 0, wrongCount(name)})
	}
	if !o.opensBlock {
		mistakes = append(mistakes, mistake{valid + " {\nbogus\n}", 0, "unexpected block: this option takes none"})
	}
	if !o.repeatable {
		mistakes = append(mistakes, mistake{valid + "\n" + valid, strings.Count(valid, "\n") + 1, name + " is given twice"})
	}
	return mistakes
}

// assertRejects asserts that the block is rejected with these lines in it, and that the
// error has the message and the number of the line.
func (b blockTest) assertRejects(t *testing.T, m mistake) {
	t.Helper()
	before, _, found := strings.Cut(b.caddyfile, "OPTIONS")
	require.True(t, found)
	message := requireAdaptError(t, strings.Replace(b.caddyfile, "OPTIONS", m.lines, 1))
	line := 1 + strings.Count(before, "\n") + m.at
	assert.Equal(t, fmt.Sprintf("parsing caddyfile tokens for '%s': %s, at Caddyfile:%d", b.directive, m.message, line), message, m.lines)
}

func TestBlocksRejectMistakesInOptions(t *testing.T) {
	t.Parallel()
	for name, block := range blockTests {
		for option, test := range block.options {
			mistakes := test.mistakes(option)
			require.NotEmpty(t, mistakes, "the row of the option %s of %s tests nothing", option, name)
			for _, m := range mistakes {
				t.Run(name+"/"+m.lines, func(t *testing.T) {
					t.Parallel()
					block.assertRejects(t, m)
				})
			}
		}
	}
}

// The error lists all options of the block, so the test fails if one has no row.
func TestBlocksRejectUnknownOption(t *testing.T) {
	t.Parallel()
	for name, block := range blockTests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := strings.Join(slices.Sorted(maps.Keys(block.options)), ", ")
			block.assertRejects(t, mistake{"bogus", 0, "unrecognized option bogus; there are: " + options})
		})
	}
}

// A secret may stand at the wrong place.
func TestUnknownOptionThatMayBeASecretIsNotShown(t *testing.T) {
	t.Parallel()
	blockTests["ledger"].assertRejects(t, mistake{"{$FIXTURE_POSTGRES}", 0, "unrecognized option; there are: from, keep, on_down"})
}

func TestBlocksNameThePlaceOfTheLedger(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"account", "cvs_proxy", "cvs_confirm", "cvs_notice"} {
		for _, lines := range []string{"ledger", "ledger off", "ledger /var/lib/shop/cvs.db {\nkeep 30d\n}"} {
			t.Run(name+"/"+lines, func(t *testing.T) {
				t.Parallel()
				blockTests[name].assertRejects(t, mistake{lines, 0, "ledger is not an option of this block: it belongs to the global option cvs, outside of its accounts, which share one ledger"})
			})
		}
	}
}

func TestHandlersNameTheBlockOfAccountOptions(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"cvs_proxy", "cvs_confirm", "cvs_notice"} {
		block := blockTests[name]
		for option, test := range accountOptions {
			if _, taken := block.options[option]; taken {
				continue
			}
			t.Run(name+"/"+option, func(t *testing.T) {
				t.Parallel()
				block.assertRejects(t, mistake{option + " " + test.valid, 0, option + " is not an option of this block: it belongs to the global option cvs, or to an account in it"})
			})
		}
	}
}

var unknownOption = regexp.MustCompile(`unrecognized option bogus; there are: ([a-z_, ]+), at Caddyfile:`)

// optionsOf returns the options that the block lists when it is given an unknown one.
func optionsOf(t *testing.T, block string) []string {
	t.Helper()
	_, _, err := adaptCaddyfile(strings.Replace(blockTests[block].caddyfile, "OPTIONS", "bogus", 1))
	require.Error(t, err)
	found := unknownOption.FindStringSubmatch(err.Error())
	require.NotNil(t, found, "%s: %v", block, err)
	options := strings.Split(found[1], ", ")
	require.NotEmpty(t, options)
	return options
}

// For every option of every block there is a fixture that adapts and loads.
func TestCaddyfileFixturesUseEveryOption(t *testing.T) {
	t.Parallel()
	used := make(map[string]bool)
	for _, f := range readFixtures(t)[adapts] {
		servers, err := caddyfile.Parse("Caddyfile", []byte(f.input))
		require.NoError(t, err, f.path)
		for _, server := range servers {
			for _, segment := range server.Segments {
				d := caddyfile.NewDispenser(segment)
				d.Next()
				collectOptions(d, used)
			}
		}
	}
	for block := range blockTests {
		for _, option := range optionsOf(t, block) {
			assert.True(t, used[block+" "+option], "no fixture uses the option %s of %s", option, block)
		}
	}
}

// collectOptions adds the options of the block that begins at the dispenser's line,
// and those of the blocks in it.
func collectOptions(d *caddyfile.Dispenser, used map[string]bool) {
	block := d.Val()
	d.RemainingArgs()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		used[block+" "+d.Val()] = true
		collectOptions(d, used)
	}
}

// jsonPlurals are the options, each behind its block, whose JSON name is a plural, because it holds a map or a list
// of blocks.
var jsonPlurals = map[string]string{"cvs.account": "accounts", "cvs_confirm.order_check": "order_checks", "order_check.require": "requirements", "tell.require": "requirements"}

func TestJSONNamesMatchCaddyfileOptions(t *testing.T) {
	t.Parallel()
	for name, block := range blockTests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for _, option := range slices.Concat(optionsOf(t, name), block.jsonOnly) {
				want = append(want, cmp.Or(jsonPlurals[name+"."+option], option))
			}
			slices.Sort(want)
			assert.Equal(t, want, slices.Sorted(maps.Keys(jsonFields(reflect.TypeOf(block.config)))))
		})
	}
}

func jsonFields(typ reflect.Type) map[string]bool {
	fields := make(map[string]bool)
	for field := range typ.Fields() {
		tag, tagged := field.Tag.Lookup("json")
		switch {
		case !field.IsExported():
		case field.Anonymous:
			maps.Copy(fields, jsonFields(field.Type))
		default:
			name, rest, _ := strings.Cut(tag, ",")
			if tagged && rest == "omitempty" {
				fields[name] = true
			} else {
				fields["untagged "+field.Name] = true
			}
		}
	}
	return fields
}
