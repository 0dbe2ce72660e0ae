package caddycvs

// This file holds what `caddy cvs check` says of accounts and of the files with their secrets.

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// configs returns the accounts' configurations by name.
func (a *App) configs() map[string]*Account {
	configs := maps.Clone(a.Accounts)
	if configs == nil {
		configs = make(map[string]*Account)
	}
	if _, ok := a.accounts[""]; ok {
		configs[""] = &a.Account
	}
	return configs
}

// accountInWords is what a finding calls an account.
func accountInWords(name string) string {
	if name == "" {
		return "the unnamed account"
	}
	return "account " + name
}

// isSandbox reports whether an account's API is no public one: then its callbacks may be private, too.
func (a *account) isSandbox() bool {
	api, err := url.Parse(a.api)
	return err == nil && !isPublicHost(api.Hostname())
}

func inspectAccounts(s *setup, r *report) {
	configs := s.app.configs()
	first := make(map[string]string) // by what identifies the merchant
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		cfg, acc := configs[name], s.app.accounts[name]
		key, err := resolveSecret("imp_key", cfg.ImpKey)
		if err != nil { // of a file that has changed since it was loaded
			continue
		}
		if api, _ := url.Parse(acc.api); api.Scheme == "http" && !acc.isSandbox() {
			r.fail("api_not_https", accountInWords(name), "api is http at a public host, so that everybody on the way can read the keys", "use https")
		}
		merchant := strings.Join([]string{acc.api, key, cfg.Tier}, "\x00")
		if other, known := first[merchant]; known {
			r.warn("same_imp_key", accountInWords(name), "has the imp_key of "+accountInWords(other)+", and no tier of its own: both issue barcodes for one merchant",
				"correct the placeholder, or use one account")
			continue
		}
		first[merchant] = name
	}
	r.good("accounts: %d configured", len(configs))
}

var filePlaceholder = regexp.MustCompile(`\{file\.([^{}]+)\}`)

// inspectSecretFiles finds the files of secrets that every user of the machine can read.
func inspectSecretFiles(s *setup, r *report) {
	if runtime.GOOS == "windows" { // where the mode says nothing
		return
	}
	var seen []string
	for _, raw := range s.secretTexts() {
		for _, match := range filePlaceholder.FindAllStringSubmatch(raw, -1) {
			if slices.Contains(seen, match[1]) {
				continue
			}
			seen = append(seen, match[1])
			info, err := os.Stat(match[1])
			switch {
			case errors.Is(err, fs.ErrPermission):
				r.warn("secret_file", match[1], "this user cannot look at the file of a secret", "run the check as the user that runs Caddy")
			case err == nil && info.Mode().Perm()&0o004 != 0 && !isKept(match[1]):
				r.fail("secret_file", match[1], fmt.Sprintf("every user of this machine can read the file of a secret (mode %04o)", info.Mode().Perm()), "chmod 640, with the group of the user that runs Caddy, or 600")
			}
		}
	}
}

// secretMounts are where Docker, Podman and, by convention, Kubernetes put the secrets of a container, which
// chooses their modes: nobody else is in it.
var secretMounts = []string{"/run/secrets/", "/var/run/secrets/"}

// isKept reports whether other users of the machine cannot reach a file, whatever its mode is.
func isKept(file string) bool {
	path, err := filepath.Abs(file)
	if err != nil || slices.ContainsFunc(secretMounts, func(mount string) bool { return strings.HasPrefix(path, mount) }) {
		return err == nil
	}
	for directory := filepath.Dir(path); ; directory = filepath.Dir(directory) {
		if info, err := os.Stat(directory); err == nil && info.Mode().Perm()&0o001 == 0 {
			return true
		}
		if directory == filepath.Dir(directory) {
			return false
		}
	}
}

// secretTexts returns the values of the options that may name the file of a secret.
func (s *setup) secretTexts() (list []string) {
	for _, cfg := range s.app.configs() {
		list = append(list, cfg.ImpKey, cfg.ImpSecret)
		list = append(list, cfg.SigningKey...)
	}
	list = append(list, s.app.Ledger.DSN)
	if from := s.app.Ledger.From; from != nil {
		list = append(list, from.DSN)
	}
	for _, n := range s.notices {
		list = slices.AppendSeq(append(list, n.handler.Tell.Secret...), maps.Values(n.handler.Tell.Header))
	}
	for _, c := range s.confirms {
		for _, check := range c.handler.OrderChecks {
			list = slices.AppendSeq(list, maps.Values(check.Header))
		}
	}
	slices.Sort(list)
	return list
}
