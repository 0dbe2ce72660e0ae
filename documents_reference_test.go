package caddycvs

// This file holds the tests that keep the reference's other tables from drifting: placeholders, header fields, statuses and
// the admin endpoint are those of the code. Options are in documents_options_test.go, metrics and events beside their tests.

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// showing is a directive that shows the placeholders after the handlers of a site, in a header field each. Its last brace is
// that of the site's block before.
func showing() string {
	lines := []string{"\n}\nheader {\ndefer"}
	for _, name := range placeholderNames {
		lines = append(lines, fmt.Sprintf("X-Shown-%s \"{http.cvs.%[1]s}\"", name))
	}
	return strings.Join(lines, "\n")
}

// asQuery is a query with placeholders.
func asQuery(names []string) string {
	var parameters []string
	for _, name := range names {
		parameters = append(parameters, fmt.Sprintf("%s={http.cvs.%[1]s}", name))
	}
	return strings.Join(parameters, "&")
}

// Each handler, order check and tell has the placeholders that the table gives it, and no other one.
func TestReferenceHasThePlaceholders(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 100)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Second:  "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECRET}\napi API",
		Proxy:   gatewaytest.UsualProxy + "\naccount second\nnotice_url OUTSIDE/cvs/notice" + showing(),
		Confirm: "account second\norder_check SHOP/payable?" + asQuery(placeholderNames),
		Notice:  "account second\nsweep off\ntell SHOP/told?" + asQuery(ofTell.placeholders) + " {\nrequire heard true\n}" + showing(),
		Payable: func(w http.ResponseWriter, r *http.Request) {
			asked <- r
			if r.URL.Query().Get("merchant_uid") == "order-2" {
				w.WriteHeader(http.StatusConflict)
			}
			fmt.Fprint(w, `{"heard":true,"reason":"sold out"}`)
		},
	})
	found := make([]map[string]bool, 5) // by the column
	for i := range found {
		found[i] = make(map[string]bool)
	}
	note := func(column int, value func(name string) string) {
		for _, name := range placeholderNames {
			found[column][name] = found[column][name] || value(name) != ""
		}
	}
	shown := func(column int, a gatewaytest.Answer) {
		note(column, func(name string) string { return a.Header.Get("X-Shown-" + name) })
	}
	shown(0, g.Issue(t, "order-1"))
	i, no := g.MustIssue(t, "order-1"), g.MustIssue(t, "order-2")
	shown(1, g.Confirm(t, i))
	shown(1, g.Confirm(t, no))
	_, notices := g.API.WebhookURLs(i.ImpUID)
	_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
	require.NoError(t, err)
	shown(3, g.Do(t, http.MethodPost, notices[0], gatewaytest.JSONType, `{"imp_uid":"`+i.ImpUID+`","merchant_uid":"order-1","status":"paid"}`))
	for told := false; !told; {
		select {
		case r := <-asked:
			told = r.URL.Path == "/told"
			note(map[string]int{"/payable": 2, "/told": 4}[r.URL.Path], r.URL.Query().Get)
		case <-time.After(20 * time.Second):
			require.Fail(t, "the shop was not told")
		}
	}

	var names []string
	for _, row := range tableRows(t, "placeholders") {
		require.Len(t, row, 7)
		name := strings.Trim(strings.TrimPrefix(words(row[0])[0], "{http.cvs."), "}")
		names = append(names, name)
		for column := range found {
			assert.Equal(t, map[bool]string{true: "yes", false: "–"}[found[column][name]], row[1+column], "%s, column %d", name, 1+column)
		}
		assert.Equal(t, slices.Contains(ofTell.placeholders, name), row[5] == "yes", name)
		assert.NotEmpty(t, row[6], name)
	}
	assert.Equal(t, placeholderNames, names)
	for _, match := range regexp.MustCompile(`\{http\.cvs\.(\w+)\}`).FindAllStringSubmatch(documents(t), -1) {
		assert.Contains(t, placeholderNames, match[1])
	}
}

// sources are the parsed files of a folder, without tests.
func sources(t *testing.T, folder string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	files := make(map[string]*ast.File)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		files[name], err = parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
	}
	require.NotEmpty(t, files, folder)
	return files
}

// textOf returns the value of a literal, or of a constant of the same folder.
func textOf(n ast.Expr, texts map[string]string) string {
	switch n := n.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(n.Value)
		return text
	case *ast.Ident:
		return texts[n.Name]
	}
	return ""
}

var fieldName = regexp.MustCompile(`^[A-Z][A-Za-z]*(-[A-Z][A-Za-z]*)*$`)

// fieldsIn returns the names of header fields that a folder reads or writes: by the methods of http.Header, by an index, or in
// the lists of the fields that proxies set.
func fieldsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, texts, fields := sources(t, folder), make(map[string]string), make(map[string]bool)
	each := func(do func(ast.Node) bool) {
		for _, file := range files {
			ast.Inspect(file, do)
		}
	}
	each(func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
			for i, name := range spec.Names {
				texts[name.Name] = textOf(spec.Values[i], nil)
			}
		}
		return true
	})
	note := func(n ast.Expr) {
		if text := textOf(n, texts); fieldName.MatchString(text) {
			fields[http.CanonicalHeaderKey(text)] = true
		}
	}
	each(func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if method, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Get", "Set", "Add", "Del", "Values"}, method.Sel.Name) && len(n.Args) > 0 {
				note(n.Args[0])
			}
		case *ast.IndexExpr:
			note(n.Index)
		case *ast.ValueSpec:
			if name := n.Names[0].Name; name == "addressHeaders" || name == "forwardingHeaders" {
				ast.Inspect(n.Values[0], func(n ast.Node) bool {
					if text, ok := n.(*ast.BasicLit); ok {
						note(text)
					}
					return true
				})
			}
		}
		return true
	})
	return fields
}

// fieldsOfOthers are written by other packages: by otel.
var fieldsOfOthers = []string{"Traceparent"}

func TestReferenceHasTheHeaderFields(t *testing.T) {
	t.Parallel()
	used := make(map[string]bool)
	for _, folder := range []string{".", "client", "client/emulator"} {
		maps.Copy(used, fieldsIn(t, folder))
	}
	documented := make(map[string]bool)
	for _, name := range fieldsOfOthers {
		used[name] = true
	}
	for _, row := range tableRows(t, "headers") {
		require.Len(t, row, 4, row)
		require.NotEmpty(t, words(row[0]), row)
		for _, name := range words(row[0]) {
			documented[http.CanonicalHeaderKey(name)] = true
		}
		assert.NotContains(t, row, "")
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(used)), slices.Collect(maps.Keys(documented)))
}

// The parameters are those that package signedurl adds.
func TestReferenceHasTheParametersOfASignedURL(t *testing.T) {
	t.Parallel()
	var added, documented []string
	for _, file := range sources(t, "client/signedurl") {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == "names" {
				for _, name := range spec.Values[0].(*ast.CompositeLit).Elts {
					added = append(added, textOf(name, nil))
				}
			}
			return true
		})
	}
	require.NotEmpty(t, added)
	for _, row := range tableRows(t, "query") {
		documented = append(documented, words(row[0])...)
	}
	assert.Equal(t, added, documented)
}

// statusWriters are the functions that decide an HTTP status, by the handler that answers it. One that is in several lists
// is shared.
var statusWriters = map[string][]string{
	"cvs_proxy": {
		"access.verifyAddress", "apiCall.validate", "badRequest", "bodyError", "exchange.explain", "exchange.explainOrder", "forbidden",
		"Proxy.complete", "tooLarge", "unreadable", "validateBodyHeader", "errGone",
	},
	"cvs_confirm": {
		"access.verifyAddress", "badRequest", "bodyError", "Confirm.answerProbe", "Confirm.askAll", "Confirm.authenticate",
		"Confirm.authenticateUnsigned", "Confirm.conclude", "Confirm.receive", "decision.answer", "forbidden", "standingReader.apply", "statusFor",
		"tooLarge", "unreadable", "validateBodyHeader", "webhookReceiver.receive",
	},
	"cvs_unrouted": {"answerMisrouted"},
	"cvs_notice":   {"badRequest", "bodyError", "forbidden", "incoming.answer", "notKept", "tooLarge", "unreadable", "validateBodyHeader"},
	"cvs_barcode":  {"Barcode.ServeHTTP"},
	"admin": {
		"Admin.backup", "Admin.ofLedger", "Admin.presentApp", "Admin.presentLedger", "Admin.ready", "Admin.retry", "Admin.status",
		"badQuery", "requireMethod",
	},
	// The placeholder token, as the API would answer it; and what a site's handler writes to a notice.
	"": {"Proxy.answerToken", "guardedWriter.Write"},
}

// elsewhere are the statuses in the reference that no function names: net/http's when nothing else is written, and PortOne's.
var elsewhere = map[string][]int{"cvs_barcode": {200}, "cvs_proxy": {404}}

// statusTakers are the functions and methods that are given the status of an answer.
var statusTakers = []string{"adminError", "sendAnswer", "WriteHeader", "set"}

// statusesIn returns the statuses that each function of the module decides. The commands answer nobody.
func statusesIn(t *testing.T) map[string][]int {
	t.Helper()
	statuses := make(map[string][]int)
	for path, file := range sources(t, ".") {
		if strings.HasPrefix(path, "check_") || strings.HasPrefix(path, "command") || path == "trigger.go" {
			continue
		}
		for _, decl := range file.Decls {
			name := declaredName(decl)
			var stack []ast.Node
			ast.Inspect(decl, func(n ast.Node) bool {
				if n == nil {
					stack = stack[:len(stack)-1]
					return true
				}
				if status := statusOf(n); status != 0 && decides(stack, n) && !slices.Contains(statuses[name], status) {
					statuses[name] = append(statuses[name], status)
				}
				stack = append(stack, n)
				return true
			})
		}
	}
	return statuses
}

// declaredName is the name of a function with that of its receiver, or that of a variable.
func declaredName(decl ast.Decl) string {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil {
			return decl.Name.Name
		}
		receiver := decl.Recv.List[0].Type
		if pointer, ok := receiver.(*ast.StarExpr); ok {
			receiver = pointer.X
		}
		if name, ok := receiver.(*ast.Ident); ok {
			return name.Name + "." + decl.Name.Name
		}
		return decl.Name.Name
	case *ast.GenDecl:
		if spec, ok := decl.Specs[0].(*ast.ValueSpec); ok {
			return spec.Names[0].Name
		}
	}
	return ""
}

// statusOf returns the status that a node is, such as http.StatusOK or 499, or 0.
func statusOf(n ast.Node) int {
	switch n := n.(type) {
	case *ast.BasicLit:
		if status, err := strconv.Atoi(n.Value); err == nil && status >= 100 && status < 600 {
			return status
		}
	case *ast.SelectorExpr:
		if pkg, ok := n.X.(*ast.Ident); !ok || pkg.Name != "http" {
			return 0
		}
		for status := 100; status < 600; status++ {
			if text := http.StatusText(status); text != "" && "Status"+nameOf(text) == n.Sel.Name {
				return status
			}
		}
	}
	return 0
}

// nameOf makes the name of net/http's constant of the text of a status.
func nameOf(text string) string {
	switch text {
	case "OK":
		return text
	case "Request Entity Too Large", "URI Too Long":
		return strings.NewReplacer(" ", "", "URI", "RequestURI").Replace(text)
	}
	return strings.NewReplacer(" ", "", "-", "").Replace(text)
}

// decides reports whether a status is one that is answered, and not one that is compared.
func decides(stack []ast.Node, n ast.Node) bool {
	if len(stack) == 0 {
		return false
	}
	switch parent := stack[len(stack)-1].(type) {
	case *ast.KeyValueExpr:
		key, ok := parent.Key.(*ast.Ident)
		return ok && slices.Contains([]string{"status", "Status"}, key.Name)
	case *ast.CallExpr:
		called := ""
		switch f := parent.Fun.(type) {
		case *ast.Ident:
			called = f.Name
		case *ast.SelectorExpr:
			called = f.Sel.Name
		}
		return slices.Contains(statusTakers, called)
	case *ast.ReturnStmt:
		_, isName := n.(*ast.SelectorExpr)
		return isName
	case *ast.AssignStmt:
		for _, left := range parent.Lhs {
			if field, ok := left.(*ast.SelectorExpr); ok && field.Sel.Name == "httpStatus" {
				return true
			}
			if name, ok := left.(*ast.Ident); ok && name.Name == "status" {
				return true
			}
		}
	}
	return false
}

var threeDigits = regexp.MustCompile(`\b[2-5]\d\d\b`)

// Each status that a function decides belongs to a handler, whose table has it; and each status of the tables is decided.
func TestReferenceHasTheStatusesOfEachHandler(t *testing.T) {
	t.Parallel()
	decided, listed := statusesIn(t), make(map[string]bool)
	for handler, functions := range statusWriters {
		var wanted []int
		for _, name := range functions {
			require.NotEmpty(t, decided[name], "%s decides no status", name)
			listed[name] = true
			wanted = append(wanted, decided[name]...)
		}
		if handler == "" {
			continue
		}
		wanted = append(wanted, elsewhere[handler]...)
		slices.Sort(wanted)
		var documented []int
		for _, row := range tableRows(t, "statuses "+handler) {
			column := 0
			if len(threeDigits.FindString(row[0])) == 0 { // a table of requests
				column = 1
			}
			for _, text := range threeDigits.FindAllString(row[column], -1) {
				status, err := strconv.Atoi(text)
				require.NoError(t, err)
				documented = append(documented, status)
			}
		}
		slices.Sort(documented)
		assert.Equal(t, slices.Compact(wanted), slices.Compact(documented), handler)
	}
	for name := range decided {
		assert.True(t, listed[name], "%s decides %v: of which handler?", name, decided[name])
	}
}

// The admin endpoint has the paths of the table, with its methods and parameters.
func TestReferenceHasTheAdminEndpoint(t *testing.T) {
	t.Parallel()
	none := errors.New("none")
	admin := &Admin{ledger: func() (operatorLedger, error) { return nil, none }, app: func() (*App, error) { return nil, none }}
	routes, parameters := make(map[string]caddy.AdminHandler), make(map[string][]string)
	for _, route := range admin.Routes() {
		routes[route.Pattern] = route.Handler
	}
	for _, row := range tableRows(t, "admin endpoint") {
		method, path, found := strings.Cut(words(row[0])[0], " ")
		require.True(t, found, row)
		require.Contains(t, routes, path)
		for _, tried := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			var answer caddy.APIError
			require.ErrorAs(t, routes[path].ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(tried, path, nil)), &answer)
			assert.Equal(t, tried != method, answer.HTTPStatus == http.StatusMethodNotAllowed, "%s %s", tried, path)
		}
		delete(routes, path)
		parameters[path] = words(row[1])
	}
	assert.Empty(t, routes, "the reference lacks them")

	unknown := httptest.NewRequest(http.MethodGet, "/?no=1", nil)
	_, err := parseFilter(unknown)
	require.ErrorContains(t, err, "there are order, state, since and after")
	assert.Subset(t, parameters["/cvs/barcodes"], []string{"order", "state", "since", "after"})
	_, err = parseStatusQuery(unknown)
	require.ErrorContains(t, err, "there are after and token")
	assert.Equal(t, []string{"after", "token"}, parameters["/cvs/status"])
	assert.ElementsMatch(t, slices.Collect(maps.Keys(jsonMembers(reflect.TypeFor[retryRequest](), ""))), parameters["/cvs/retry"])
	assert.Empty(t, parameters["/cvs/backup"])

	_, text, found := strings.Cut(documents(t), "\n`state` is that of an order's newest barcode")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n")
	assert.ElementsMatch(t, stateNames(), words(text))
}

// jsonMembers returns the members of a type's JSON, those of objects in it behind a dot.
func jsonMembers(typ reflect.Type, prefix string) map[string]bool {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	members := make(map[string]bool)
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() {
		return members
	}
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		members[prefix+name] = true
		maps.Copy(members, jsonMembers(field.Type, prefix+name+"."))
	}
	return members
}

func TestReferenceHasTheMembersOfTheAdminEndpoint(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, row := range tableRows(t, "barcodes") {
		listed = append(listed, words(row[0])...)
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(jsonMembers(reflect.TypeFor[barcodeList](), ""))), listed)

	content, err := os.ReadFile("docs/reference.md")
	require.NoError(t, err)
	_, state, found := strings.Cut(string(content), "\n## State\n")
	require.True(t, found)
	state, _, _ = strings.Cut(state, "\n## ")
	for member := range jsonMembers(reflect.TypeFor[statusView](), "") {
		name := member[strings.LastIndexByte(member, '.')+1:]
		assert.Regexp(t, `"`+name+`":|`+"`"+name+"`", state, member)
	}
	for _, cause := range constantsOf(t, "client", "TokenCause") {
		assert.Contains(t, state, "`"+cause+"`")
	}
}

// The members of a message to the shop, in their order.
func TestReferenceHasTheMembersOfAMessage(t *testing.T) {
	t.Parallel()
	message := tell.Message{ImpUID: "imp_1", MerchantUID: "order-1", Event: tell.Cancelled, Status: "cancelled", Amount: "15000", CancelAmount: "1", PaidAt: 1, CancellationID: "c", Test: true}
	_, body := message.Encode(true)
	var sent, listed []string
	for pair := range strings.SplitSeq(string(body), "&") {
		name, _, _ := strings.Cut(pair, "=")
		sent = append(sent, name)
	}
	_, table, found := strings.Cut(section(t, "docs/reference.md", "## `cvs_notice`"), "\n| member | |\n")
	require.True(t, found)
	for _, row := range tableOf("\n| member | |\n" + table) {
		listed = append(listed, words(row[0])...)
	}
	assert.Equal(t, sent, listed)
}

// The reference lists the beginnings of the API's paths, and the statuses whose no is reported as a fault of the set-up.
func TestReferenceListsPathsAndSetupFaults(t *testing.T) {
	t.Parallel()
	text := documents(t)
	_, paths, found := strings.Cut(text, "The API's paths begin with ")
	require.True(t, found)
	paths, _, _ = strings.Cut(paths, ", in upper or lower case")
	var roots, faults []string
	for _, path := range words(paths) {
		assert.True(t, inAPI(path), path)
		roots = append(roots, apiRoot(path))
	}
	assert.ElementsMatch(t, apiRoots, roots)

	_, list, found := strings.Cut(text, "with the usual cause:")
	require.True(t, found)
	list, _, _ = strings.Cut(list, "\n\n")
	for status := range setupFaults {
		faults = append(faults, strconv.Itoa(status))
	}
	documented := slices.DeleteFunc(threeDigits.FindAllString(list, -1), func(status string) bool { return status == "300" || status == "409" })
	slices.Sort(documented)
	assert.ElementsMatch(t, faults, slices.Compact(documented))
}

// A text of a POST /cvs may have as many characters as the reference says.
func TestReferenceStatesTheLengthsOfFields(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(documents(t), "\n| field | rule |\n")
	require.True(t, found)
	limits := map[string]int{}
	for _, row := range tableOf("\n| field | rule |\n" + table) {
		fields, most := words(row[0]), regexp.MustCompile(`at most ([\d, ]+) characters`).FindStringSubmatch(row[1])
		if most == nil {
			continue
		}
		numbers := strings.Split(most[1], ", ")
		require.Len(t, numbers, len(fields), row[0])
		for i, field := range fields {
			var err error
			limits[field], err = strconv.Atoi(numbers[i])
			require.NoError(t, err)
		}
	}
	require.Len(t, limits, 7)
	issue := func(field string, characters int) error {
		fields := map[string]string{"merchant_uid": "order-1", "amount": "15000", field: strings.Repeat("가", characters)}
		body, err := json.Marshal(fields)
		require.NoError(t, err)
		_, err = client.ParseIssue(strict.JSON, body, time.Now())
		return err
	}
	for field, most := range limits {
		assert.NoError(t, issue(field, most), field)
		assert.ErrorContains(t, issue(field, most+1), field)
	}
}
