package caddycvs

// This file holds the tests of the runbook in docs/operations.md and its Korean counterpart: it has every message
// that is logged at WARN or ERROR, every alert, and every answer from 500 in words of the gateway's own, and
// nothing else.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gap stands in a message for what is different each time.
const gap = "…"

var verb = regexp.MustCompile(`%[a-z]`)

// wording returns the words of an expression, with gaps; "" if it has no words of its own.
func wording(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if e.Kind != token.STRING || err != nil {
			return ""
		}
		return text
	case *ast.BinaryExpr:
		left, right := wording(e.X), wording(e.Y)
		if left == "" && right == "" {
			return ""
		}
		if left == "" {
			left = gap
		}
		if right == "" {
			right = gap
		}
		return strings.ReplaceAll(left+right, gap+gap, gap)
	case *ast.CallExpr:
		if name := calledName(e); name == "Sprintf" {
			return verb.ReplaceAllString(wording(e.Args[0]), gap)
		}
	}
	return ""
}

// calledName returns the name of the function or method that is called.
func calledName(e *ast.CallExpr) string {
	switch f := e.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// inSource calls visit for each node of the code of the root package and of client/, tests left out.
func inSource(t *testing.T, visit func(file string, n ast.Node)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		isRoot := filepath.Dir(path) == "."
		switch {
		case err != nil:
			return err
		case d.IsDir() && isRoot && path != "." && path != "client":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			visit(path, n)
			return true
		})
		return nil
	}))
}

// isLogger reports whether an expression is a logger, by its name.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return strings.HasSuffix(strings.ToLower(e.Sel.Name), "logger")
	case *ast.Ident:
		return strings.HasSuffix(strings.ToLower(e.Name), "logger")
	case *ast.CallExpr:
		return strings.HasSuffix(strings.ToLower(calledName(e)), "logger")
	}
	return false
}

// logs is what the code logs at WARN or ERROR.
type logs struct {
	levels   map[string]string // by message; "" if it has more than one
	indirect []string          // where something is logged that comes from elsewhere
}

func (l *logs) add(message, level string) {
	if was, known := l.levels[message]; known && was != level {
		level = ""
	}
	l.levels[message] = level
}

// message returns the message of a node, and its level if that is always the same.
func message(file string, n ast.Node) (e ast.Expr, level string) {
	switch n := n.(type) {
	case *ast.CallExpr:
		f, isMethod := n.Fun.(*ast.SelectorExpr)
		switch name := calledName(n); {
		case isMethod && isLogger(f.X) && isWarning(name):
			return n.Args[0], strings.ToUpper(name)
		case isMethod && isLogger(f.X) && (name == "Log" || name == "Check") && file != "probe.go": // a probe is at INFO at most
			return n.Args[1], ""
		case name == "warn" && (file == "routes.go" || strings.Contains(file, "sqlstore")):
			return n.Args[0], "WARN"
		case name == "report" && strings.HasPrefix(file, "client/ledger/"):
			return n.Args[0], "ERROR"
		case name == "reportAs":
			return n.Args[1], "ERROR"
		}
	case *ast.CompositeLit:
		switch name, _ := n.Type.(*ast.Ident); {
		case name != nil && name.Name == "Event" && strings.HasPrefix(file, "client/ledger/"):
			return eventMessage(n)
		case name != nil && name.Name == "kind" && len(n.Elts) > 0:
			return n.Elts[0], ""
		}
	case *ast.KeyValueExpr:
		if key, _ := n.Key.(*ast.Ident); key != nil && key.Name == "alarm" {
			return n.Value, "ERROR"
		}
	case *ast.AssignStmt:
		if target, isField := n.Lhs[0].(*ast.SelectorExpr); isField && target.Sel.Name == "alarm" {
			return n.Rhs[0], "ERROR"
		}
	}
	return nil, ""
}

func isWarning(name string) bool {
	return slices.Contains([]string{"Warn", "Error", "DPanic", "Panic", "Fatal"}, name)
}

// eventMessage returns the message of a ledger.Event that is not always at INFO.
func eventMessage(n *ast.CompositeLit) (e ast.Expr, level string) {
	for _, element := range n.Elts {
		pair := element.(*ast.KeyValueExpr)
		switch value, _ := pair.Value.(*ast.Ident); pair.Key.(*ast.Ident).Name {
		case "Message":
			e = pair.Value
		case "Notice":
			if value != nil && value.Name == "true" {
				return nil, ""
			}
		}
	}
	return e, "ERROR"
}

// collectLogs collects the messages, and the places that log what comes from elsewhere: from there the test
// must know the way to the messages.
func collectLogs(t *testing.T) *logs {
	t.Helper()
	l, called := &logs{levels: make(map[string]string)}, make(map[ast.Expr]bool)
	inSource(t, func(file string, n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			called[n.Fun] = true
		case *ast.SelectorExpr:
			if !called[n] && isLogger(n.X) && isWarning(n.Sel.Name) {
				l.indirect = append(l.indirect, file+": "+n.Sel.Name)
			}
		case *ast.FuncDecl:
			if n.Name.Name == "checkMySQL" { // what it returns is logged
				returned(n, func(result []ast.Expr) {
					if text := wording(result[0]); text != "" {
						l.add(text, "WARN")
					}
				})
			}
		}
		switch e, level := message(file, n); {
		case e == nil:
		case wording(e) == "":
			l.indirect = append(l.indirect, file)
		default:
			l.add(wording(e), level)
		}
	})
	slices.Sort(l.indirect)
	return l
}

// returned calls visit with the results of each return statement.
func returned(n ast.Node, visit func([]ast.Expr)) {
	ast.Inspect(n, func(n ast.Node) bool {
		if r, is := n.(*ast.ReturnStmt); is && len(r.Results) > 0 {
			visit(r.Results)
		}
		return true
	})
}

// runbooks are the documents that have the runbook.
var runbooks = []string{"docs/operations.md", "docs/ko/operations.md"}

// runbookTable returns the rows of a table of the runbook by the first cell's code, without its other cells but
// the second.
func runbookTable(t *testing.T, document, name string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(document)
	require.NoError(t, err)
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+?) \\| (.*)$").FindAllStringSubmatch(between(t, string(content), name), -1) {
		require.NotContains(t, rows, row[1], "twice")
		rows[row[1]] = row[2]
		assert.NotContains(t, row[3], "|  |", "an empty cell: %s", row[1])
	}
	require.NotEmpty(t, rows)
	return rows
}

func TestRunbookHasEveryLogMessage(t *testing.T) {
	t.Parallel()
	l := collectLogs(t)
	for _, document := range runbooks {
		rows := runbookTable(t, document, "messages")
		maps.Copy(rows, runbookTable(t, document, "load"))
		assert.ElementsMatch(t, slices.Collect(maps.Keys(l.levels)), slices.Collect(maps.Keys(rows)), document)
		for text, level := range l.levels {
			if level != "" {
				assert.Equal(t, level, rows[text], "%s: %s", document, text)
			}
		}
	}
	assert.Equal(t, []string{
		"client/ledger/issue.go",             // step.alarm
		"client/ledger/order.go",             // report
		"client/ledger/order.go",             // reportAs
		"client/ledger/sqlstore/sqlstore.go", // checkMySQL
		"ledger_open.go",                     // warn of sqlstore
		"ledger_use.go: Error",               // ledger.Event
		"module.go: Warn",                    // warn of routes.go
		"publish.go",                         // kind
	}, l.indirect, "a new way to the log: message must know what goes there")
}

func TestRunbookHasEveryAlert(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("examples/monitoring/alerts.yml")
	require.NoError(t, err)
	var names []string
	for _, match := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(string(content), -1) {
		names = append(names, match[1])
	}
	for _, document := range runbooks {
		assert.ElementsMatch(t, names, slices.Collect(maps.Keys(runbookTable(t, document, "alerts"))), document)
	}
}

// failures are statuses from 500 by their name in net/http.
var failures = map[string]string{"StatusInternalServerError": "500", "StatusBadGateway": "502", "StatusServiceUnavailable": "503", "StatusGatewayTimeout": "504"}

// failure returns the statuses from 500 that an expression may be.
func failure(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return failures[e.Sel.Name]
	case *ast.Ident:
		if e.Name == "status" { // that of explain, if PortOne cannot be reached
			return "502, 504"
		}
	case *ast.CallExpr:
		if calledName(e) == "statusFor" {
			return "502, 503, 504"
		}
	}
	return ""
}

var letters = regexp.MustCompile(`[A-Za-z]`)

func TestRunbookHasEveryAnswerFrom500(t *testing.T) {
	t.Parallel()
	answers := make(map[string]string)
	add := func(status, text string) {
		if status != "" && letters.MatchString(text) { // else describe has the words
			answers[text] = status
		}
	}
	inSource(t, func(file string, n ast.Node) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			returned(n, func(result []ast.Expr) {
				switch name := n.Name.Name; {
				case file == "errors.go" && (name == "explain" || name == "explainOrder") && len(result) == 2:
					add(failure(result[0]), wording(result[1]))
				case file == "errors.go" && name == "describe":
					add("502, 504", capitalize(wording(result[0])))
				case file == "status.go" && name == "String" && len(n.Type.Params.List) == 0:
					add("503", wording(result[0]))
				}
			})
		case *ast.CompositeLit:
			if name, _ := n.Type.(*ast.Ident); name != nil && name.Name == "httpError" {
				parts := make(map[string]ast.Expr)
				for _, element := range n.Elts {
					pair := element.(*ast.KeyValueExpr)
					parts[pair.Key.(*ast.Ident).Name] = pair.Value
				}
				add(failure(parts["status"]), wording(parts["message"]))
			}
		case *ast.CallExpr:
			if calledName(n) == "set" && len(n.Args) == 4 {
				add(failure(n.Args[0]), wording(n.Args[3]))
			}
		}
	})
	answers[errNotLoaded.Error()] = "503"
	maps.DeleteFunc(answers, func(text, _ string) bool { // what describe says is in another answer, too
		return slices.ContainsFunc(slices.Collect(maps.Keys(answers)), func(other string) bool { return other != text && strings.HasPrefix(other, text) })
	})
	for _, document := range runbooks {
		rows := runbookTable(t, document, "proxy")
		maps.Copy(rows, runbookTable(t, document, "webhooks"))
		maps.Copy(rows, runbookTable(t, document, "admin"))
		assert.Equal(t, answers, rows, document)
	}
}
