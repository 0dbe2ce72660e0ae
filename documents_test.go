package caddycvs

// This file holds what tests read of the documents: README.md and docs/. What they show is compared with what the gateway does
// in the tests of each subject. Here is also what holds for all of them: each link leads somewhere, and the Korean documents
// say the same.

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documentNames returns the paths of the English documents.
func documentNames(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.Len(t, names, 6)
	return append([]string{"README.md"}, names...)
}

// A README is read to its end only if it is short.
func TestREADMEsAreShort(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "README.ko.md"} {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Less(t, strings.Count(string(content), "\n"), 200, name)
	}
}

// documents returns the text of all English documents.
func documents(t testing.TB) string {
	t.Helper()
	var text strings.Builder
	for _, name := range documentNames(t) {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		text.Write(content)
		text.WriteString("\n")
	}
	return text.String()
}

// between returns what stands between the two comments of a name in a text.
func between(t testing.TB, text, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "<!-- "+name+" -->")
	require.True(t, found, name)
	part, _, found := strings.Cut(rest, "<!-- /"+name+" -->")
	require.True(t, found, name)
	return part
}

// fenced returns the documents' code blocks of a language.
func fenced(t *testing.T, language string) []string {
	t.Helper()
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```").FindAllStringSubmatch(documents(t), -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// compareWithDocument compares a table between two comments of a document with the one that a test has made.
func compareWithDocument(t *testing.T, document, name, table string) {
	t.Helper()
	content, err := os.ReadFile(document)
	require.NoError(t, err)
	begin, end := "<!-- "+name+": written by UPDATE_DOCS=1 go test -run "+t.Name()+" . -->\n\n", "\n<!-- /"+name+" -->"
	before, rest, found := strings.Cut(string(content), begin)
	require.True(t, found, "%s has no %q", document, begin)
	was, after, found := strings.Cut(rest, end)
	require.True(t, found, "%s has no %q", document, end)
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(document, []byte(before+begin+table+end+after), 0o600))
		return
	}
	assert.Equal(t, table, was, "UPDATE_DOCS=1 go test -run %s . writes it", t.Name())
}

// link matches a link of Markdown or HTML, and heading a heading outside of a code block.
var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#{1,4} (.+)$`)
	block   = regexp.MustCompile("(?ms)^```.*?^```\n")
)

// anchors returns the anchors that GitHub gives the headings of a document.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, match := range heading.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1])
		found[anchor] = true
	}
	return found
}

// Every link to a file or a heading of the project leads there.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	names := []string{"CONTRIBUTING.md"}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		names = append(names, found...)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, match := range link.FindAllStringSubmatch(block.ReplaceAllString(string(content), ""), -1) {
			path, anchor, _ := strings.Cut(match[1]+match[2], "#")
			if strings.Contains(path, ":") || strings.HasPrefix(path, "/") { // another site, or a path of the shop's
				continue
			}
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, name) || anchor == "" {
				continue
			}
			text, err := os.ReadFile(target)
			require.NoError(t, err)
			assert.True(t, anchors(string(text))[anchor], "%s: %s has no heading #%s", name, target, anchor)
		}
	}
}

// korean returns the path of a document's Korean counterpart.
func korean(name string) string {
	if name == "README.md" {
		return "README.ko.md"
	}
	return filepath.Join("docs/ko", filepath.Base(name))
}

// comment matches what is said in words in a code block, by its language.
var comment = map[string]*regexp.Regexp{
	"sql": regexp.MustCompile(`(?m)\s*-- .*$`), "php": regexp.MustCompile(`(?m)\s*// .*$`), "js": regexp.MustCompile(`(?m)\s*// .*$`),
	"mermaid": regexp.MustCompile(`(?m)( as |: ).*$`), "": regexp.MustCompile(`(?m)(^|\s+)# .*$`),
}

// outline is what a document and its Korean counterpart have in common: the levels of the headings, the code without its comments,
// the tables' keys, and where the links lead.
type outline struct {
	headings, code, keys, links []string
}

func outlineOf(t *testing.T, name string) (s outline) {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	text := string(content)
	for _, b := range block.FindAllString(text, -1) {
		language, code, _ := strings.Cut(strings.TrimPrefix(b, "```"), "\n")
		says := comment[language]
		if says == nil {
			says = comment[""]
		}
		s.code = append(s.code, language+"\n"+says.ReplaceAllString(code, ""))
	}
	text = block.ReplaceAllString(text, "")
	for _, match := range heading.FindAllString(text, -1) {
		s.headings = append(s.headings, match[:strings.Index(match, " ")])
	}
	for line := range strings.SplitSeq(text, "\n") {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "|") {
			s.keys = append(s.keys, strings.Join(regexp.MustCompile("`[^`]+`").FindAllString(cells[0], -1), " ")+strings.Repeat(" |", len(cells)))
		}
	}
	for _, match := range link.FindAllStringSubmatch(text, -1) {
		path, _, _ := strings.Cut(match[1]+match[2], "#")
		if path != "" && !strings.Contains(path, ":") && !strings.HasPrefix(path, "/") {
			path = filepath.Join(filepath.Dir(name), path)
		}
		s.links = append(s.links, path)
	}
	return s
}

// The Korean documents are no translation word by word, but they have the same parts, show the same code, name the same options,
// and lead to the same places. A document links to its counterpart at the top.
func TestKoreanDocumentsSayTheSame(t *testing.T) {
	t.Parallel()
	names := documentNames(t)
	for _, name := range names {
		english, other := outlineOf(t, name), outlineOf(t, korean(name))
		assert.Equal(t, english.headings, other.headings, name)
		assert.Equal(t, english.code, other.code, name)
		assert.Equal(t, english.keys, other.keys, name)
		for i, path := range english.links {
			switch {
			case path == korean(name):
				english.links[i] = name
			case slices.Contains(names, path):
				english.links[i] = korean(path)
			}
		}
		assert.ElementsMatch(t, english.links, other.links, name)
	}
}
