package shops

// This file holds the search for credentials of the API in the shops.

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
