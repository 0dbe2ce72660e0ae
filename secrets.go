package caddycvs

// This file holds how secrets are configured: as placeholders that are expanded once.

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

var placeholderPattern = regexp.MustCompile(`^\{[^{}]+\}$`)

// validateSecret returns a function that refuses everything but one placeholder.
func validateSecret(option string) func(string) error {
	return func(raw string) error {
		switch {
		case raw == "":
			return fmt.Errorf("%s is missing: set it to a placeholder such as {env.PORTONE_%s}", option, strings.ToUpper(option))
		case strings.HasPrefix(raw, "{$"): // only in JSON: in a Caddyfile it is expanded before
			return fmt.Errorf("%s: {$NAME} is for a Caddyfile's other options: use {env.NAME}", option)
		case strings.ContainsAny(raw, "{}") && !placeholderPattern.MatchString(raw):
			return fmt.Errorf("%s must be one placeholder such as {env.NAME} or {file./path}, and nothing else", option)
		case !placeholderPattern.MatchString(raw):
			return fmt.Errorf("%s must be one placeholder such as {env.NAME} or {file./path}: a literal could be read in /config/ and in the autosaved configuration; {$NAME} becomes a literal when the Caddyfile is parsed", option)
		}
		return nil
	}
}

// resolveSecret expands a secret once. The result goes to unexported fields
// only, so that the configuration keeps showing the placeholder.
func resolveSecret(option, raw string) (string, error) {
	if err := validateSecret(option)(raw); err != nil {
		return "", err
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(raw, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w: set the variable, or check that the file can be read", option, err)
	}
	if strings.TrimSpace(value) != value || strings.HasPrefix(value, "\ufeff") {
		return "", fmt.Errorf("%s: what %s stands for has a space, a line break or a byte order mark at an end: remove it", option, raw)
	}
	return value, nil
}

func signingKeys(raw []string, impSecret string) (signedurl.Keys, error) {
	if len(raw) == 0 {
		return signedurl.NewKeys(impSecret)
	}
	const shortest = 16
	secrets := make([]string, len(raw))
	for i := range raw {
		var err error
		if secrets[i], err = resolveSecret("signing_key", raw[i]); err != nil {
			return signedurl.Keys{}, err
		}
		if len(secrets[i]) < shortest {
			return signedurl.Keys{}, fmt.Errorf("signing_key %s is shorter than %d characters: make one with openssl rand -base64 32", raw[i], shortest)
		}
	}
	return signedurl.NewKeys(secrets...)
}
