package caddycvs

// This file holds the test that keeps the page of the sandbox from drifting: what it lists is what the emulator has.

import (
	"go/ast"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// constantsOf returns the text constants of a type in a folder.
func constantsOf(t *testing.T, folder, typ string) (values []string) {
	t.Helper()
	for _, file := range sources(t, folder) {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typ {
					values = append(values, textOf(spec.Values[0], nil))
				}
			}
			return true
		})
	}
	require.NotEmpty(t, values, typ)
	return values
}

// section returns what stands below a heading of a document.
func section(t *testing.T, document, heading string) string {
	t.Helper()
	content, err := os.ReadFile(document)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(content), "\n"+heading+"\n")
	require.True(t, found, heading)
	level := heading[:strings.Index(heading, " ")]
	for _, end := range []string{level, level[1:]} {
		rest, _, _ = strings.Cut(rest, "\n"+end+" ")
	}
	return rest
}

// tableOf returns the rows of the first table in a text.
func tableOf(text string) [][]string {
	_, table, _ := strings.Cut(text, "\n|")
	table, _, _ = strings.Cut("|"+table, "\n\n")
	return cellsOf(table)
}

var variable = regexp.MustCompile(`\{\w+\}`)

// callsOf returns the calls of a table of the sandbox's, as "GET payments/*".
func callsOf(rows [][]string) (calls []string) {
	for _, row := range rows {
		for _, call := range words(row[0]) {
			verb, path, found := strings.Cut(call, " /")
			if !found { // a parameter
				continue
			}
			path, _, _ = strings.Cut(variable.ReplaceAllString(path, "*"), "?")
			short, optional, _ := strings.Cut(path, "[")
			calls = append(calls, verb+" "+short)
			if optional != "" {
				calls = append(calls, verb+" "+short+strings.TrimSuffix(optional, "]"))
			}
		}
	}
	return calls
}

// The sandbox's page lists the API's calls, its own requests, the scenarios and the faults that there are.
func TestSandboxHasWhatItsPageLists(t *testing.T) {
	t.Parallel()
	const document = "docs/sandbox.md"
	var scenarios, api, own []string
	for _, row := range tableOf(section(t, document, "### Scenarios")) {
		scenarios = append(scenarios, words(row[0])...)
	}
	assert.ElementsMatch(t, constantsOf(t, "client/emulator", "Scenario"), scenarios)

	ast.Inspect(sources(t, "client/emulator")["client/emulator/routes.go"], func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) >= 3 {
			if name, ok := call.Fun.(*ast.Ident); ok && (name.Name == "api" || name.Name == "control") {
				route := strings.ToUpper(strings.TrimPrefix(call.Args[0].(*ast.SelectorExpr).Sel.Name, "Method")) + " " + textOf(call.Args[1], nil)
				own = append(own, route)
				if name.Name == "api" {
					api = append(api, route)
				}
			}
		}
		return true
	})
	assert.ElementsMatch(t, api, callsOf(tableOf(section(t, document, "## The API"))))
	controls := callsOf(tableOf(section(t, document, "## The till")))
	assert.Subset(t, own, controls)
	assert.Len(t, controls, 4)

	faults := section(t, document, "## Faults")
	list, _, found := strings.Cut(faults, ")")
	require.True(t, found)
	assert.ElementsMatch(t, append(constantsOf(t, "client/emulator", "Endpoint"), "endpoint"), words(list))
	for member := range jsonMembers(reflect.TypeFor[emulator.Fault](), "") {
		assert.True(t, member == "-" || strings.Contains(faults, "`"+member+"`"), member)
	}
	for _, typ := range []string{"Drop", "Forgery"} {
		for _, value := range constantsOf(t, "client/emulator", typ) {
			assert.Contains(t, faults, "`"+value+"`")
		}
	}
}
