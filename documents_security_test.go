package caddycvs

// This file holds tests of what the documents say about attacks, logs, measuring and versions: each attack has
// its tests, the log's filter works, each command of go test finds a test or a benchmark, and the changelog names
// what there is.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// attackTests are the tests of each row of the table of attacks, by the row's first words.
var attackTests = map[string][]string{
	"thousands of confirm webhooks":         {"TestForgeryRun", "TestConfirmRejectsForeignSignatures", "TestConfirmRejectsOtherAccounts"},
	"thousands of forged notices":           {"TestNoticeForgeryRun", "TestFloodOfNotices"},
	"a signed webhook at another path":      {"TestConfirmComesBeforeWhatChangesARequest", "TestWebhookAtASimilarPathIsAnswered", "TestWebhookOutsideABlockIsRefused", "TestGuardRefusesWebhooksOnOtherSites", "TestMisroutedConfirmDoesNotReachTheAppOfASiteWithNotice"},
	"a probe of":                            {"TestProbeIsRefused", "TestProbeIsRefusedAsAWebhookIs", "TestProbeChangesNothing", "TestProbeIsNever200"},
	"a public address, told by":             {"TestProxyRejectsPublicPeer", "TestProxyRejectsPublicClientOfAnotherSite"},
	"any forwarding field":                  {"TestProxyRejectsForwardedFromUntrustedPeer", "TestProxyRejectsPublicClientOfAnotherSite", "TestBodyIsNeverReadAsRequest"},
	"a trusted proxy that names public":     {"TestProxyRejectsPublicClientBehindTrustedProxy", "TestProxyRejectsUnreadableForwardedAddress", "TestProxyKnowsTheClientBehindNginxAndHAProxy"},
	"a trusted, strict proxy":               {"TestProxyRejectsForwardingFieldThatCaddyIgnores"},
	"a page in a browser":                   {"TestProxyRejectsBrowsers"},
	"a unix socket":                         {"TestProxyOnUnixSocketVerifiesForwardedClient", "TestProxyAllowsUnixSocket"},
	"HTTP/3 data before the handshake":      {"TestProxyRejectsRequestsBeforeTheHandshake"},
	"HTTP/1.1, HTTP/2 in cleartext":         {"TestEveryProtocolHasTheSameRules"},
	"two lengths, odd chunks":               {"TestBodyIsNeverReadAsRequest", "TestProxyRejectsQueryWithSpace"},
	"line breaks and control characters in": {"TestControlCharactersAreRejected"},
	"… in the value of an order check's":    {"TestCheckIsSentDespiteInvalidHeaderValue"},
	"`X-Cvs-*` from outside":                {"TestOrderCheckHasNoHeadersOfTheSender", "TestEveryProtocolHasTheSameRules"},
	"order numbers such as":                 {"TestOrderNumberCannotChangeTheHost", "TestOrderNumberIsNotExpandedInRoutes", "TestProxyEscapesPathSegments", "TestAbsoluteTargetDoesNotChangeTheUpstream", "TestTellRefusesUnfitOrders"},
	"`confirm_url` and `notice_url` that":   {"TestProxyNeverFetchesCallbackURLs"},
	"a redirect by the API":                 {"TestRedirectsAreNotFollowed", "TestTellToAShopThatIsDown"},
	"`/config/`, `autosave.json`":           {"TestAdminAPIShowsNoSecretDuringRequests", "TestConfigurationShowsNoSecret", "TestNoticesAndTellsShowNoSecret", "TestMetricsAndEventsShowNoSecret", "TestTracesShowNoSecret", "TestUnreachableTellShowsNoSecret", "TestPanicShowsNoSecret"},
	"a database's address":                  {"TestErrorsHideTheAddress", "TestLedgerErrorsShowNoAddress", "TestAddressesAreRefusedWithoutBeingShown"},
	"bodies of 1 GiB":                       {"TestDeclaredBodySizeAllocatesNoMemory", "TestSlowBodiesStayWithinTheirMemoryLimit"},
}

func TestDocumentedAttacksHaveTests(t *testing.T) {
	t.Parallel()
	assertRowsHaveTests(t, between(t, documents(t), "attacks"), attackTests)
}

// A server without cvs_confirm logs each URL, and reverse_proxy logs it once more at DEBUG.
func TestShownLogFilterDropsSignatures(t *testing.T) {
	t.Parallel()
	var format string
	for _, block := range fenced(t, "caddyfile") {
		if found := regexp.MustCompile(`(?s)(format filter \{.*?\n\t\t\})`).FindString(block); found != "" {
			format = found
		}
	}
	require.NotEmpty(t, format)
	at := "http://" + gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Proxy: gatewaytest.UsualProxy + "\nnotice_url " + at + "/notice",
		Sites: at + " {\nlog\nreverse_proxy SHOP\n}\n",
	})
	gatewaytest.Run(t, strings.Replace(config, "level DEBUG", "level DEBUG\n"+format, 1))
	_, notices := g.API.WebhookURLs(g.MustIssue(t, "order-1").ImpUID)
	require.Len(t, notices, 1)
	require.Contains(t, notices[0], "cvs_sig=")
	assert.Equal(t, 200, g.Do(t, http.MethodPost, notices[0], gatewaytest.JSONType, `{"imp_uid":"imp_1"}`).Status)
	require.Equal(t, 1, g.Shop.Count())
	assert.Contains(t, g.Shop.Requests[0].RequestURI, "cvs_sig=", "the app gets it as it came")
	for _, message := range []string{"handled request", "upstream roundtrip"} {
		assert.Contains(t, g.WaitForLine(t, `"msg":"`+message+`"`, `"uri":"/notice?`), "cvs_id=")
	}
	assert.NotContains(t, g.Log(t), "cvs_sig")
}

// goTest matches a command of go test in running text or in a code block.
var goTest = regexp.MustCompile("(?m)(?:`|^)go test ([^`\n]+)")

// A command that finds no test or benchmark ends as if all were well, and an unknown flag ends it at once.
func TestShownTestCommandsFindTests(t *testing.T) {
	t.Parallel()
	contributing, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	commands := goTest.FindAllStringSubmatch(documents(t)+string(contributing), -1)
	require.Greater(t, len(commands), 15)
	for _, command := range commands {
		words := strings.Fields(strings.ReplaceAll(command[1], "'", ""))
		folder := ""
		for _, word := range words {
			if word == "." || strings.HasPrefix(word, "./") {
				folder = word
			}
		}
		require.NotEmpty(t, folder, command[0])
		if strings.HasSuffix(folder, "...") {
			continue
		}
		functions, flags := declared(t, folder)
		for i, word := range words {
			switch word {
			case "-run", "-bench", "-fuzz":
				if words[i+1] == "^$" { // no test beside the benchmarks
					continue
				}
				for pattern := range strings.SplitSeq(words[i+1], "|") {
					kind := map[string]string{"-run": "Test", "-bench": "Benchmark", "-fuzz": "Fuzz"}[word]
					assert.True(t, matchesOne(pattern, kind, functions), "%s: nothing in %s matches %s", command[0], folder, pattern)
				}
			case "-v", "-benchtime", "-timeout":
			default:
				if name, isFlag := strings.CutPrefix(word, "-"); isFlag {
					assert.True(t, flags[name], "%s: %s has no flag %s", command[0], folder, word)
				}
			}
		}
	}
}

func matchesOne(pattern, kind string, functions []string) bool {
	matcher := regexp.MustCompile(pattern)
	for _, name := range functions {
		if strings.HasPrefix(name, kind) && matcher.MatchString(name) {
			return true
		}
	}
	return false
}

// declared returns the functions of a folder's tests, and the flags that they declare.
func declared(t *testing.T, folder string) (functions []string, flags map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	require.NoError(t, err)
	flags = make(map[string]bool)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					functions = append(functions, n.Name.Name)
				}
			case *ast.CallExpr:
				if of, isSelector := n.Fun.(*ast.SelectorExpr); isSelector && len(n.Args) == 3 {
					literal, isLiteral := n.Args[0].(*ast.BasicLit)
					if from, isName := of.X.(*ast.Ident); isLiteral && isName && from.Name == "flag" {
						flagName, err := strconv.Unquote(literal.Value)
						require.NoError(t, err)
						flags[flagName] = true
					}
				}
			}
			return true
		})
	}
	return functions, flags
}

// The changelog names the least versions, each handler, command and path of the admin endpoint.
func TestChangelogNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	changelog, err := os.ReadFile("CHANGELOG.md")
	require.NoError(t, err)
	module, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	goVersion := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(module)
	caddyVersion := regexp.MustCompile(`(?m)^\s+github.com/caddyserver/caddy/v2 v(\S+)$`).FindSubmatch(module)
	require.NotNil(t, goVersion)
	require.NotNil(t, caddyVersion)
	names := []string{"Go " + string(goVersion[1]) + " and Caddy " + string(caddyVersion[1])}
	for _, info := range caddy.GetModules("http.handlers") {
		if name := info.ID.Name(); strings.HasPrefix(name, "cvs_") {
			names = append(names, "`"+name+"`")
		}
	}
	for _, command := range cvsCommands {
		name := command().Name()
		names = append(names, "`"+map[string]string{"check": "caddy cvs "}[name]+name+"`")
	}
	for _, route := range new(Admin).Routes() {
		names = append(names, "`"+route.Pattern+"`")
	}
	require.Greater(t, len(names), 15)
	for _, name := range names {
		if !strings.Contains(string(changelog), name) { // assert.Contains would print all of it
			t.Errorf("the changelog does not name %s", name)
		}
	}
}
