package gatewaytest

// This file holds the start of a Caddy in a process of its own.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
)

// caddyVariable is the environment variable that makes a process of the test's binary a
// Caddy, with the Caddyfile that it reads from its input.
const caddyVariable = "CVS_TEST_CADDY"

// serveAsCaddy runs that Caddy until a signal ends the process. In any other process it
// reports false.
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

// StartProcess starts a Caddy in a process of its own, with more in its environment. The
// process ends with the test.
func StartProcess(t *testing.T, config string, env ...string) *exec.Cmd {
	t.Helper()
	return StartProcessUnder(t, nil, config, env...)
}

// StartProcessUnder is StartProcess with a command before the program: one that becomes the program,
// as strace -D does.
func StartProcessUnder(t *testing.T, command []string, config string, env ...string) *exec.Cmd {
	t.Helper()
	return startProcess(t, append(slices.Clone(command), os.Args[0]), config, env)
}

// StartProgram is StartProcess with another binary of the same tests, such as one that was built with a
// line of the product changed.
func StartProgram(t *testing.T, program, config string, env ...string) *exec.Cmd {
	t.Helper()
	return startProcess(t, []string{program}, config, env)
}

func startProcess(t *testing.T, command []string, config string, env []string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(append(os.Environ(), caddyVariable+"=1"), env...)
	cmd.Stdin = strings.NewReader(config)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n') // a program that does not get ready says why
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd
}
