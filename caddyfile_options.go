package caddycvs

// This file holds the kinds of options that all blocks of a Caddyfile share.

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// loadTimePlaceholder matches placeholders that only the machine which loads the
// configuration can expand. A template without them is validated when it is parsed.
var loadTimePlaceholder = regexp.MustCompile(`\{(env|file|system)\.[^{}]*\}`)

// optionName matches what may be a mistyped option.
var optionName = regexp.MustCompile(`^\w{1,32}$`)

// option says how one option of a block is parsed. parse is called with the dispenser at the
// option's name.
type option struct {
	parse     func(*caddyfile.Dispenser) error
	repeats   bool
	elsewhere string // for an option of another block: the advice in its error
}

// parseDirective parses a directive that takes no arguments.
func parseDirective(d *caddyfile.Dispenser, opts map[string]option) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	return parseBlock(d, opts)
}

func parseBlock(d *caddyfile.Dispenser, opts map[string]option) error {
	seen := make(map[string]bool, len(opts))
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		opt, known := opts[name]
		if name == "{" {
			return d.Err("unexpected block: this option takes none")
		}
		if opt.elsewhere != "" {
			return d.Errf("%s is not an option of this block: %s", name, opt.elsewhere)
		}
		if !known && !optionName.MatchString(name) { // it may be a secret, at the wrong place
			return d.Errf("unrecognized option; there are: %s", strings.Join(optionNames(opts), ", "))
		}
		if !known {
			return d.Errf("unrecognized option %s; there are: %s", name, strings.Join(optionNames(opts), ", "))
		}
		if seen[name] && !opt.repeats {
			return d.Errf("%s is given twice", name)
		}
		seen[name] = true
		if err := opt.parse(d); err != nil {
			return err
		}
	}
	return nil
}

func optionNames(opts map[string]option) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(opts)), func(name string) bool { return opts[name].elsewhere != "" })
}

// withAccountOptions adds the options of an account to those of a handler, as options of
// another block: their error says where they belong.
func withAccountOptions(opts map[string]option) map[string]option {
	for name, opt := range new(Account).options() {
		if _, taken := opts[name]; !taken {
			opts[name] = option{elsewhere: cmp.Or(opt.elsewhere, "it belongs to the global option cvs, or to an account in it")}
		}
	}
	return opts
}

// text is an option with one argument. validate may be nil.
func text(target *string, validate func(string) error) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if !d.NextArg() {
			return d.ArgErr()
		}
		*target = d.Val()
		if *target == "" {
			return d.Errf("%s is empty", name)
		}
		if validate != nil {
			if err := validate(*target); err != nil {
				return d.WrapErr(err)
			}
		}
		if d.NextArg() {
			return d.ArgErr()
		}
		return nil
	}}
}

// pair is an option with two arguments.
func pair(first, second *string) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		if !d.AllArgs(first, second) {
			return d.ArgErr()
		}
		return nil
	}}
}

// list is an option with one argument or more.
func list(target *[]string, validate func(string) error) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		*target = d.RemainingArgs()
		if len(*target) == 0 {
			return d.ArgErr()
		}
		for _, value := range *target {
			if err := validate(value); err != nil {
				return d.WrapErr(err)
			}
		}
		return nil
	}}
}

// toggle is an option without arguments.
func toggle(target *bool) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		*target = true
		if d.NextArg() {
			return d.ArgErr()
		}
		return nil
	}}
}

// duration is an option with a positive length of time.
func duration(target *caddy.Duration, validate func(caddy.Duration) error) option {
	var raw string
	return text(&raw, func(s string) error {
		value, err := caddy.ParseDuration(s)
		if err != nil || value <= 0 {
			return fmt.Errorf("%q is not a positive duration such as 500ms, 4s or 72h", s)
		}
		if *target = caddy.Duration(value); validate != nil {
			return validate(*target)
		}
		return nil
	})
}

// size is an option with a number of bytes.
func size(target *int64) option {
	var raw string
	return text(&raw, func(s string) error {
		value, err := humanize.ParseBytes(s)
		if err != nil || value == 0 || value > 1<<30 {
			return fmt.Errorf("%q is not a size such as 64KB, at most 1GiB", s)
		}
		*target = int64(value)
		return nil
	})
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("%q is none of: %s", s, strings.Join(words, ", "))
		}
		return nil
	}
}

// unlessPlaceholder leaves a value with placeholders to Provision.
func unlessPlaceholder(validate func(string) error) func(string) error {
	return func(s string) error {
		if strings.Contains(s, "{") {
			return nil
		}
		return validate(s)
	}
}
