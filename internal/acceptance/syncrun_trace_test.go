package acceptance

// This file holds the reading of what strace wrote about a process, and the state of a file after a
// power cut at any moment of it.

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// strace returns a command that becomes the program behind it, and the file that tells what the
// program did. The test is skipped if strace is not installed.
func strace(t *testing.T) (command []string, file string) {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	file = filepath.Join(t.TempDir(), "trace")
	return []string{
		path, "-D", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "16777216", "-o", file,
		"-e", "signal=KILL", "-e", "trace=pwrite64,write,ftruncate,fdatasync,fsync",
	}, file
}

// tracedCall is a call of the operating system.
type tracedCall struct {
	name   string
	file   string
	data   []byte
	number int64 // the offset of a pwrite64, the size of an ftruncate
	begin  int   // the number of the line at which it began
	end    int   // and at which it had succeeded; math.MaxInt for never
}

// readTrace waits for the end of a process and returns its calls.
func readTrace(t *testing.T, file string, pid int) []*tracedCall {
	t.Helper()
	var content []byte
	ended := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +\+\+\+ .*\n`, pid))
	require.Eventually(t, func() bool {
		content, _ = os.ReadFile(file)
		return ended.Match(content[max(0, len(content)-4000):])
	}, 30*time.Second, 20*time.Millisecond, "strace does not tell the end of process %d", pid)
	calls, err := parseTrace(bytes.NewReader(content))
	require.NoError(t, err)
	return calls
}

// parseTrace reads lines such as
//
//	7 pwrite64(5<\x2f\x74>, "\x61\x62", 2, 4096) = 2
//	7 fdatasync(5<\x2f\x74> <unfinished ...>
//	7 <... fdatasync resumed>) = 0
func parseTrace(r io.Reader) (calls []*tracedCall, err error) {
	unfinished := make(map[string]*tracedCall) // by thread
	lines := bufio.NewReader(r)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			return calls, nil
		}
		thread, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		rest = strings.TrimLeft(rest, " ")
		var c *tracedCall
		switch {
		case strings.HasPrefix(rest, "+++"):
			continue
		case strings.HasPrefix(rest, "<..."):
			c = unfinished[thread]
		default:
			if c, err = parseCall(rest); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
			c.begin, c.end = n, math.MaxInt
			calls = append(calls, c)
			unfinished[thread] = c
		}
		if c != nil && succeeded.MatchString(rest[max(0, len(rest)-100):]) {
			c.end = n
		}
	}
}

// succeeded matches the end of a call's last line.
var succeeded = regexp.MustCompile(`\) += \d+$`)

// parseCall reads the first line of a call.
func parseCall(line string) (*tracedCall, error) {
	name, arguments, ok := strings.Cut(line, "(")
	_, file, ok2 := strings.Cut(arguments, "<")
	file, arguments, ok3 := strings.Cut(file, ">")
	if !ok || !ok2 || !ok3 {
		return nil, fmt.Errorf("no call: %.100s", line)
	}
	c := &tracedCall{name: name, file: string(unescape(file))}
	if from, to := strings.Index(arguments, `"`), strings.LastIndex(arguments, `"`); from < to {
		c.data = unescape(arguments[from+1 : to])
		_, arguments, _ = strings.Cut(arguments[to+1:], ", ") // behind the data and its size
	}
	if c.name != "pwrite64" && c.name != "ftruncate" {
		return c, nil
	}
	_, number, _ := strings.Cut(arguments, ", ")
	digits := len(number) - len(strings.TrimLeft(number, "0123456789"))
	var err error
	c.number, err = strconv.ParseInt(number[:digits], 10, 64)
	return c, err
}

// unescape reads text in which every byte is written as \x and two digits.
func unescape(text string) []byte {
	raw := make([]byte, 0, len(text)/4)
	for i := 0; i+4 <= len(text); i += 4 {
		b, _ := strconv.ParseUint(text[i+2:i+4], 16, 8)
		raw = append(raw, byte(b))
	}
	return raw
}

// fileState is what a file holds: content, and zeros up to its size.
type fileState struct {
	content []byte
	size    int
}

// write writes the file. The zeros take no room.
func (s *fileState) write(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, s.content, 0o600))
	require.NoError(t, os.Truncate(name, int64(s.size)))
}

// do changes the file as a call did of which only so much data arrived.
func (s *fileState) do(c *tracedCall, data []byte) {
	switch c.name {
	case "pwrite64":
		end := int(c.number) + len(data)
		s.content = append(s.content, make([]byte, max(0, end-len(s.content)))...)
		copy(s.content[c.number:], data)
		s.size = max(s.size, end)
	case "ftruncate":
		s.size = int(c.number)
		s.content = s.content[:min(len(s.content), s.size)]
	}
}

// afterPowerCut returns what a file may hold if the power is cut just before a line: all writes that
// a sync had covered by then, and each later one as a whole, in part or not at all.
func afterPowerCut(calls []*tracedCall, path string, line int, rng *rand.Rand) *fileState {
	covered := -1 // the beginning of the last sync that had ended
	for _, c := range calls {
		if c.file == path && (c.name == "fdatasync" || c.name == "fsync") && c.end < line {
			covered = max(covered, c.begin)
		}
	}
	s := new(fileState)
	for _, c := range calls {
		if c.file != path || c.begin >= line {
			continue
		}
		data := c.data
		if c.end > covered {
			switch rng.IntN(4) {
			case 0, 1:
				continue
			case 2:
				data = data[:len(data)/2]
			}
		}
		s.do(c, data)
	}
	return s
}

func TestParseTrace(t *testing.T) {
	t.Parallel()
	calls, err := parseTrace(strings.NewReader(strings.Join([]string{
		`7 ftruncate(5<\x2f\x61>, 8192) = 0`,
		`7 pwrite64(5<\x2f\x61>, "\x61\x00\x22", 3, 4096 <unfinished ...>`,
		`18 write(6<\x73>, "\x62", 1)    = 1`,
		`7 <... pwrite64 resumed>)           = 3`,
		`7 fdatasync(5<\x2f\x61> <unfinished ...>`,
		`18 fsync(5<\x2f\x61>) = -1 EIO (Input/output error)`,
		`7 <... fdatasync resumed>)  = 0`,
		`18 +++ exited with 0 +++`,
		``,
	}, "\n")))
	require.NoError(t, err)
	assert.Equal(t, []*tracedCall{
		{name: "ftruncate", file: "/a", number: 8192, begin: 0, end: 0},
		{name: "pwrite64", file: "/a", data: []byte("a\x00\""), number: 4096, begin: 1, end: 3},
		{name: "write", file: "s", data: []byte("b"), begin: 2, end: 2},
		{name: "fdatasync", file: "/a", begin: 4, end: 6},
		{name: "fsync", file: "/a", begin: 5, end: math.MaxInt},
	}, calls)
	_, err = parseTrace(strings.NewReader("7 what\n"))
	assert.Error(t, err)
}

// A write is sure to be there only if a sync that began after its end has ended.
func TestAfterPowerCut(t *testing.T) {
	t.Parallel()
	write := func(text string, begin, end int) *tracedCall {
		return &tracedCall{name: "pwrite64", file: "/a", data: []byte(text), begin: begin, end: end}
	}
	sync := &tracedCall{name: "fdatasync", file: "/a", begin: 3, end: 5}
	elsewhere := &tracedCall{name: "fdatasync", file: "/b", begin: 3, end: 5}
	for name, tc := range map[string]struct {
		calls []*tracedCall
		line  int
		want  []string // that may be
	}{
		"synced":              {[]*tracedCall{write("aa", 1, 2), sync}, 6, []string{"aa"}},
		"sync under way":      {[]*tracedCall{write("aa", 1, 2), sync}, 5, []string{"", "a", "aa"}},
		"write under way":     {[]*tracedCall{write("aa", 1, 4), sync}, 6, []string{"", "a", "aa"}},
		"another file":        {[]*tracedCall{write("aa", 1, 2), elsewhere}, 6, []string{"", "a", "aa"}},
		"written after":       {[]*tracedCall{write("aa", 1, 2), sync, write("bb", 6, 7)}, 8, []string{"aa", "ba", "bb"}},
		"written still later": {[]*tracedCall{write("aa", 1, 2), sync, write("bb", 6, 7)}, 6, []string{"aa"}},
		"truncated":           {[]*tracedCall{write("aa", 1, 2), {name: "ftruncate", file: "/a", number: 1, begin: 2, end: 2}, sync}, 6, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := make(map[string]bool)
			for n := range uint64(100) {
				s := afterPowerCut(tc.calls, "/a", tc.line, rand.New(rand.NewPCG(1, n)))
				assert.Len(t, s.content, s.size)
				found[string(s.content)] = true
			}
			want := make(map[string]bool)
			for _, w := range tc.want {
				want[w] = true
			}
			assert.Equal(t, want, found)
		})
	}
}
