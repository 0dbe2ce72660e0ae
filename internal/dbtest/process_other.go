//go:build !linux

package dbtest

// This file lets tests that need a server build on systems where none is run. They are
// skipped there, because find finds no programs.

import (
	"errors"
	"syscall"
)

type (
	process struct{ done chan struct{} }
	guard   struct{}
)

func own(string) error                                  { return errors.ErrUnsupported }
func makeDir() (string, error)                          { return "", errors.ErrUnsupported }
func run(_, _, _ string, _ ...string) (*process, error) { return nil, errors.ErrUnsupported }
func startGuard(string, string) (*guard, error)         { return nil, errors.ErrUnsupported }
func (*guard) end()                                     {}
func (*process) ended() bool                            { return true }
func (*process) succeeded() bool                        { return false }
func (*process) signal(syscall.Signal) error            { return errors.ErrUnsupported }
func (*process) pause() error                           { return errors.ErrUnsupported }
func (*process) goOn() error                            { return errors.ErrUnsupported }
func (*process) kill() error                            { return errors.ErrUnsupported }
