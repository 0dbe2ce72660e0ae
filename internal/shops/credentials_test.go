package shops

// This file holds what is read of the shops: no credentials of the API, parts that are short, conditions in the Caddyfiles.

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// credentials matches what a program says that gets a token of the API, or knows where it is.
var credentials = regexp.MustCompile(`(?i)imp_?key|imp_?secret|get_?token|access_?token|api\.iamport\.kr`)

// Only a shop's Caddyfile, and the README that says how to start it, name the keys.
func TestShopsHoldNoCredential(t *testing.T) {
	t.Parallel()
	for _, of := range list {
		files := 0
		root := filepath.Join(examples, of.folder)
		require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch name := filepath.Base(path); {
			case err != nil:
				return err
			case entry.IsDir() && name == "node_modules":
				return filepath.SkipDir
			case entry.IsDir(), name == "Caddyfile", name == "README.md", path == filepath.Join(examples, "quickstart", "main.go"):
				return nil // main.go of the quickstart starts Caddy
			}
			content, err := os.ReadFile(path)
			files++
			assert.NotRegexp(t, credentials, string(content), path)
			return err
		}))
		assert.Greater(t, files, 5, of.folder)
		caddyfile, err := os.ReadFile(filepath.Join(root, "Caddyfile"))
		require.NoError(t, err)
		assert.Regexp(t, credentials, string(caddyfile), "the pattern finds what it is for")
	}
}

// What an existing shop copies is marked, and each part fits on a screen.
func TestShopsPartsFitOnAScreen(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"node/gateway.js", "python/gateway.py"} {
		content, err := os.ReadFile(filepath.Join(examples, file))
		require.NoError(t, err)
		parts := regexp.MustCompile(`(?m)^(?://|#) ---- (.*) ----$`).Split(string(content), -1)
		marks := regexp.MustCompile(`---- (.*) ----`).FindAllStringSubmatch(string(content), -1)
		require.Len(t, marks, 3, file)
		for i, mark := range []string{"1. Ask", "2. Check", "3. Told"} {
			assert.Equal(t, mark, marks[i][1], file)
			assert.LessOrEqual(t, strings.Count(parts[i+1], "\n"), 55, "%s, %s", file, mark)
		}
	}
}

// What the shops answer is compared with what it must be: a merchant who copies the Caddyfile copies the conditions.
func TestShopsCaddyfilesCompareTheAnswers(t *testing.T) {
	t.Parallel()
	for _, of := range list {
		config, err := os.ReadFile(filepath.Join(examples, of.folder, "Caddyfile"))
		require.NoError(t, err)
		check := regexp.MustCompile(`(?s)order_check .*?\n\t\t}`).FindString(string(config))
		assert.Contains(t, check, "\t\t\trequire payable true\n", of.folder)
		assert.Contains(t, check, "\t\t\tamount total\n", of.folder)
		told := regexp.MustCompile(`(?s)tell .*?\n\t\t}`).FindString(string(config))
		assert.Contains(t, told, "\t\t\trequire heard true\n", of.folder)
		assert.Equal(t, !of.unsigned, regexp.MustCompile(`\n\t\t\tsecret \{env\.\w+}\n`).MatchString(told), of.folder)
	}
}
