// SPDX-License-Identifier: Apache-2.0

// Package process makes a program a well-behaved daemon: it goes into the
// background and says when it is ready, tells a service manager how it is,
// keeps a pid file and gives up privileges.
//
// It knows nothing of what the daemon does, reads no configuration and handles
// no signals, except that a starting process passes on those that would end it.
package process

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/sevlyar/go-daemon"
	"golang.org/x/sys/unix"
)

const (
	// handshakeVar names the environment variable with the name of the socket
	// on which the starting process waits.
	handshakeVar = "_DETACHED_FROM"

	// umask of the daemon: what it writes is not for everybody.
	umask = 0o027

	// spareFD is where go-daemon leaves /dev/null open in the child.
	spareFD = 3
)

// Detach starts this program anew in the background, with the same arguments
// and directory, and waits until it is ready, however long that takes. It
// returns the exit status for the starting process, which is to end then: 0
// where the child became ready (Notifier.Ready). Until then stderr gets its
// warnings (Notifier.Warn). Where it does not become ready, stderr gets what it
// said (Notifier.Fail) and the status is the one that it gave; of a child that
// ended without a word stderr gets one line, and the status is 1. SIGTERM and
// SIGINT are passed on to the child. The error is of the start itself. Detach is
// called once.
func Detach(stderr io.Writer) (status int, err error) {
	h, err := newHandshake(stderr)
	if err != nil {
		return 1, fmt.Errorf("wait for the daemon: %w", err)
	}
	defer h.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGINT) { // as it is in a script's job in the background
		signal.Notify(signals, syscall.SIGINT)
	}
	child, err := start(h.name)
	if err != nil {
		signal.Stop(signals)
		return 1, fmt.Errorf("start in the background: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range signals {
			_ = child.Signal(s) // it may have ended meanwhile
		}
	})
	defer func() {
		signal.Stop(signals)
		close(signals)
		wg.Wait()
	}()
	return h.wait(child)
}

// start runs the child.
func start(socket string) (*os.Process, error) {
	// With its mark in our own environment, left there by another daemon that
	// started us, go-daemon would take us for the child.
	if err := os.Unsetenv(daemon.MARK_NAME); err != nil {
		return nil, err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{notifyVar, watchdogVar, watchdogPIDVar, handshakeVar}, name)
	})
	env = append(env, notifyVar+"="+socket, handshakeVar+"="+socket)
	// A daemon must not hold on to what the starting process inherited, such as
	// the lock or the pipe of a script. Linux 5.11 and newer know the flag.
	_ = unix.CloseRange(spareFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	child, err := (&daemon.Context{Env: env, Umask: umask}).Reborn()
	if child != nil {
		return child, nil // its end tells what err is about: it takes nothing from go-daemon
	}
	return nil, err
}

// Reborn tells whether this process is the child that Detach started and has
// not called Continue yet. A mark in the environment that was not made by
// Detach counts for nothing.
func Reborn() bool {
	socket := os.Getenv(handshakeVar)
	return daemon.WasReborn() && socket != "" && socket == os.Getenv(notifyVar)
}

// Continue goes on in the child that Detach started, and is called there before
// anything else: it completes the detaching, after which the process leads a
// session without a terminal, has the umask 027 and /dev/null as standard input,
// output and error, and removes from the environment what the child was found
// by. NOTIFY_SOCKET is left to NewNotifier. The directory is still that of the
// starting process, so that names relative to it can be resolved; the program
// goes to "/" itself afterwards.
func Continue() error {
	if !Reborn() {
		return fmt.Errorf("continue in the background: %w", os.ErrInvalid)
	}
	if _, err := new(daemon.Context).Reborn(); err != nil {
		return fmt.Errorf("continue in the background: %w", err)
	}
	for _, name := range []string{daemon.MARK_NAME, handshakeVar} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	// What go-daemon opens cannot be written to.
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range spareFD {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("%s: %w", os.DevNull, err)
		}
	}
	return unix.Close(spareFD)
}

// program is the name that this program was called by.
func program() string { return filepath.Base(os.Args[0]) }
