//go:build unix

// Package guide walks through docs/guide.md and docs/ko/guide.md as a new user does: in an empty home, with the guide's commands,
// files and nothing else, from the clone to a paid order and a refused one.
package guide

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// asCaddy is the variable with which this test's program is a Caddy with the module.
const asCaddy = "CVS_GUIDE_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		os.Args[0] = "caddy"
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

// patience is how long the walk waits for what must happen.
const patience = time.Minute

// block is a block of code in a guide, with what its mark says: a comment before it.
type block struct {
	mark, language, text string
	want                 string // the answer that the guide shows
}

var blockPattern = regexp.MustCompile("(?m)(?:^<!-- guide: (.*) -->\n\n)?^```(.*)\n((?s:.*?))^```$")

// read returns the blocks of a guide. One of text that has no mark of its own is the answer to the one before.
func read(t *testing.T, text string) []block {
	t.Helper()
	found := blockPattern.FindAllStringSubmatch(text, -1)
	require.Len(t, found, strings.Count(text, "\n```")/2)
	var blocks []block
	for _, match := range found {
		b := block{mark: match[1], language: match[2], text: match[3]}
		if b.language == "text" && b.mark == "" {
			require.NotEmpty(t, blocks, b.text)
			before := &blocks[len(blocks)-1]
			require.Equal(t, "sh", before.language, "no command has this answer: %s", b.text)
			require.Empty(t, before.want, "a second answer: %s", b.text)
			before.want = b.text
			continue
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// walk is a new user's machine.
type walk struct {
	home, directory string // the directory is where terminal 1 is
	env             []string
	build           bool // Caddy is built as the guide says; else this test's program is the Caddy

	ports     map[string]string // those of the guide, and those of this walk
	terminals []*output         // the other terminals: the first has Caddy
}

// output is what a terminal shows.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var guidePort = regexp.MustCompile(`:(2019|3000|8080|8081|8480)\b`)

func start(t *testing.T) *walk {
	t.Helper()
	for _, program := range []string{"bash", "git", "curl", "openssl", "php"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	if modules, _ := exec.Command("php", "-m").Output(); !bytes.Contains(modules, []byte("pdo_sqlite")) {
		t.Skip("PHP has no pdo_sqlite (Debian's package php-sqlite3)")
	}
	repository, err := filepath.Abs("../..")
	require.NoError(t, err)
	w := &walk{home: t.TempDir(), ports: make(map[string]string), build: os.Getenv("GUIDE_BUILD") != ""}
	w.directory = w.home
	for _, port := range []string{"2019", "3000", "8080", "8081", "8480"} {
		_, w.ports[port], _ = net.SplitHostPort(gatewaytest.Address(t))
	}
	w.env = []string{
		"HOME=" + w.home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "CADDY_ADMIN=localhost:" + w.ports["2019"],
		// What the guide clones is this repository.
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=url." + repository + ".insteadOf", "GIT_CONFIG_VALUE_0=https://github.com/caddy-cvs/caddy-cvs",
		"GIT_CONFIG_KEY_1=safe.directory", "GIT_CONFIG_VALUE_1=*",
	}
	if w.build { // a new user's Go has nothing yet, but this one need not download and compile all of it
		for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY"} {
			value, err := exec.Command("go", "env", name).Output()
			require.NoError(t, err)
			w.env = append(w.env, name+"="+strings.TrimSpace(string(value)))
		}
	}
	return w
}

// here replaces the guide's ports, which may be taken on this machine.
func (w *walk) here(text string) string {
	return guidePort.ReplaceAllStringFunc(text, func(port string) string { return ":" + w.ports[port[1:]] })
}

// run runs commands in terminal 1, and returns their output and whether the last one succeeded.
func (w *walk) run(t *testing.T, commands string) (string, bool) {
	t.Helper()
	left := filepath.Join(w.home, ".left") // the directory in which the commands leave the terminal
	cmd := exec.CommandContext(t.Context(), "bash", "-uc", commands+"\ncode=$?\npwd >"+left+"\nexit $code")
	cmd.Dir, cmd.Env, cmd.Stderr = w.directory, w.env, t.Output()
	out, err := cmd.Output()
	directory, leftErr := os.ReadFile(left)
	require.NoError(t, leftErr, commands)
	w.directory = strings.TrimSpace(string(directory))
	return string(out), err == nil
}

// open runs commands that stay in a terminal of their own, until the test ends.
func (w *walk) open(t *testing.T, commands string) *output {
	t.Helper()
	shown := new(output)
	cmd := exec.Command("bash", "-uc", commands)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.home, w.env, shown, shown
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM), "it has ended by itself")
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("$ %s\n%s", commands, shown)
		}
	})
	w.terminals = append(w.terminals, shown)
	return shown
}

// masks are what differs from one run to another.
var masks = []struct{ pattern, value string }{
	{`imp_\d{12}`, "imp_142857142857"},
	{`\b\d{20}\b`, "98200142857142857142"},
	{`"expires":\d{10}\b`, `"expires":1796018400`},
	{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d`, "2026-11-27 14:31:07 +09:00"},
	{`a sync takes [\d.]+[mµ]s`, "a sync takes 200µs"},
}

// steady replaces what differs from one run to another, and from one machine to another.
func (w *walk) steady(text string) string {
	text = strings.ReplaceAll(text, w.home, "/home/shop")
	for _, mask := range masks {
		text = regexp.MustCompile(mask.pattern).ReplaceAllString(text, mask.value)
	}
	return text
}

// pattern matches an answer as the guide shows it: … is something that it leaves out, in a line of its own some lines.
func (w *walk) pattern(shown string) *regexp.Regexp {
	lines := strings.Split(strings.TrimSuffix(w.steady(w.here(shown)), "\n"), "\n")
	for i, line := range lines {
		if line == "…" {
			lines[i] = `(?:.*\n)+?`
			continue
		}
		lines[i] = strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`
	}
	return regexp.MustCompile(strings.Join(lines, ""))
}

// answers reports whether an output is the answer that the guide shows.
func (w *walk) answers(out, shown string) bool {
	out = strings.TrimRight(w.steady(out), "\n") + "\n"
	return w.pattern(shown).FindString(out) == out
}

// step does what a block of the guide says.
func (w *walk) step(t *testing.T, b block) {
	t.Helper()
	commands := w.here(b.text)
	kind, name, _ := strings.Cut(b.mark, " ")
	switch b.language + " " + kind {
	case "sh build":
		w.buildCaddy(t, commands)
	case "sh ":
		out, succeeded := w.run(t, commands)
		if b.want != "" {
			require.True(t, w.answers(out, b.want), "$ %s\n%s\nbut the guide shows:\n%s", b.text, out, b.want)
			return
		}
		require.True(t, succeeded, b.text)
	case "sh again":
		require.Eventually(t, func() bool {
			out, _ := w.run(t, commands)
			return w.answers(out, b.want)
		}, patience, 200*time.Millisecond, "$ %s\n%s", b.text, b.want)
	case "sh stays":
		w.await(t, w.open(t, commands), b.want)
	case "text log":
		for line := range strings.Lines(b.text) {
			w.await(t, w.terminals[0], line)
		}
	case "diff change":
		w.change(t, name, commands)
	default:
		require.Equal(t, "file", kind, "what is to be done with this block? %s", b.text)
		require.NoError(t, os.WriteFile(filepath.Join(w.directory, name), []byte(commands), 0o600))
	}
}

// await waits until a terminal shows what the guide does.
func (w *walk) await(t *testing.T, terminal *output, shown string) {
	t.Helper()
	require.Eventually(t, func() bool { return w.pattern(shown).MatchString(w.steady(terminal.String())) }, patience, 50*time.Millisecond, shown)
}

// buildCaddy does the guide's first steps, in which Caddy is built. That takes minutes where nothing is compiled yet: unless
// GUIDE_BUILD is set, this test's own program takes the place of what would be built.
func (w *walk) buildCaddy(t *testing.T, commands string) {
	t.Helper()
	building := regexp.MustCompile(`(?m)^go tool xcaddy build .*--output \.\./caddy$`)
	require.Regexp(t, building, commands)
	if !w.build {
		self, err := os.Executable()
		require.NoError(t, err)
		script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s \"$@\"\n", asCaddy, self)
		commands = building.ReplaceAllLiteralString(commands, "printf '%s' '"+script+"' >../caddy && chmod 700 ../caddy")
	}
	_, succeeded := w.run(t, commands)
	require.True(t, succeeded, commands)
}

// change makes the changes of a diff in a file. Where it leaves lines out, it has @@.
func (w *walk) change(t *testing.T, name, diff string) {
	t.Helper()
	path := filepath.Join(w.directory, name)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for hunk := range strings.SplitSeq(diff, "@@\n") {
		var was, is strings.Builder
		for line := range strings.Lines(hunk) {
			if line[0] != '+' {
				was.WriteString(line[1:])
			}
			if line[0] != '-' {
				is.WriteString(line[1:])
			}
		}
		require.Equal(t, 1, strings.Count(string(content), was.String()), "%s has not once:\n%s", name, was.String())
		content = []byte(strings.Replace(string(content), was.String(), is.String(), 1))
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func TestGuideLeadsToAPaidOrderAndARefusedOne(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"docs/ko/guide.md", "docs/guide.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("../..", name))
			require.NoError(t, err)
			w, elsewhere := start(t), 0
			var shown strings.Builder
			for _, b := range read(t, string(text)) {
				if strings.HasPrefix(b.mark, "not in CI: ") {
					elsewhere++
					continue
				}
				w.step(t, b)
				shown.WriteString(b.want)
			}
			assert.Equal(t, 1, elsewhere, "what can only be done with PortOne")
			assert.Contains(t, shown.String(), `"state":"paid"`)
			assert.Contains(t, shown.String(), `"accepted": false`)
		})
	}
}
