package caddycvs

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

// caddyVariable tells a process of the test's binary to be Caddy, with the
// configuration that it reads.
const caddyVariable = "CVS_TEST_CADDY"

// serveAsCaddy does so, until a signal ends the process. It reports false in any other
// process.
func serveAsCaddy() bool {
	if os.Getenv(caddyVariable) == "" {
		return false
	}
	input, err := io.ReadAll(os.Stdin)
	if err == nil {
		var adapted []byte
		if adapted, _, err = AdaptCaddyfile(string(input)); err == nil {
			caddy.TrapSignals()
			err = caddy.Load(adapted, true)
		}
	}
	if err != nil {
		fmt.Println(err)
		return true
	}
	fmt.Println("ready")
	select {}
}

// startCaddyProcess starts a Caddy in a process of its own, with more in its environment.
func StartProcess(t *testing.T, config string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), caddyVariable+"=1"), env...)
	cmd.Stdin = strings.NewReader(config)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line := make([]byte, len("ready\n"))
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(line))
	return cmd
}

// watchLag starts to watch how late timers are, on a machine with other work. The
// function that it returns tells the worst and ends the watch.
func WatchLag() (worst func() time.Duration) {
	done, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			due := time.Now().Add(5 * time.Millisecond)
			select {
			case <-time.After(5 * time.Millisecond):
				most = max(most, time.Since(due))
			case <-done:
				result <- most
				return
			}
		}
	}()
	return func() time.Duration {
		close(done)
		return <-result
	}
}
