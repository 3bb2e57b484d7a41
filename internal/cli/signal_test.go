// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// waitFor waits until cond holds, and tells whether it does in the end.
func waitFor(cond func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if cond() {
			return true
		}
	}
	return cond()
}

func TestSignals(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("os/signal.loop"))
	sig := catchRequests()
	ctx := sig.catchEnd(context.Background(), nil)
	defer sig.release()
	raise := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	raise(syscall.SIGHUP)
	<-sig.reload
	raise(syscall.SIGUSR1)
	<-sig.summary
	if ctx.Err() != nil {
		t.Errorf("got %v at SIGHUP and SIGUSR1, want no end", ctx.Err())
	}
	raise(syscall.SIGTERM)
	<-ctx.Done()
}

// startFake starts vxsnd with a fake in the node's place by a shell, and
// returns it with the lines that it logs. The shell runs a command before.
func startFake(t *testing.T, does, before string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "vxsnd")
	if err := os.Symlink(exe, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", before+`; exec "$0" -D -c /dev/null`, name)
	cmd.Env = append(os.Environ(), serviceVar+"="+does, "GORACE="+noRaceSleep, "RUNTIME_DIRECTORY="+filepath.Dir(name))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, bufio.NewScanner(out)
}

// awaitLine reads lines until one has text in it.
func awaitLine(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("got no line with %q", text)
}

// raise sends a process one signal after the other.
func raise(t *testing.T, cmd *exec.Cmd, signals ...syscall.Signal) {
	t.Helper()
	for _, s := range signals {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
}

// insist sends a process a signal, and again until it ends: what follows the
// first one at once counts as that.
func insist(cmd *exec.Cmd, s syscall.Signal) {
	go func() {
		tick := time.NewTicker(echo / 2)
		defer tick.Stop()
		for cmd.Process.Signal(s) == nil {
			<-tick.C
		}
	}()
}

// end waits until a process ends, which it is made to after a while, and
// returns how.
func end(cmd *exec.Cmd) syscall.WaitStatus {
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestSecondSignalAlwaysKills(t *testing.T) {
	const times = 8
	both := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}
	for _, first := range both {
		for _, second := range both {
			t.Run(fmt.Sprintf("%v then %v", first, second), func(t *testing.T) {
				for range times {
					cmd, lines := startFake(t, "stubborn", ":")
					awaitLine(t, lines, "fake runs")
					raise(t, cmd, first)
					awaitLine(t, lines, "fake stops")
					insist(cmd, second)
					if got := end(cmd); !got.Signaled() || got.Signal() != second {
						t.Fatalf("got status %#x, want the end that %v makes", got, second)
					}
				}
			})
		}
	}
	// The kernel makes one of two equal signals that come at once, and of two
	// that differ it chooses the order.
	t.Run("both at once", func(t *testing.T) {
		for range 2 * times {
			cmd, lines := startFake(t, "stubborn", ":")
			awaitLine(t, lines, "fake runs")
			raise(t, cmd, both...)
			if got := end(cmd); !got.Signaled() || got.Signal() == syscall.SIGKILL {
				t.Fatalf("got status %#x, want the end that a signal makes", got)
			}
		}
	})
}

// timeout(1) signals a program and then its group: once would do. On a busy
// machine the second may be seen late and kill, so one attempt has to succeed.
func TestEchoOfASignalDoesNotKill(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		var got syscall.WaitStatus
		ok := false
		for try := 0; try < 16 && !ok; try++ {
			cmd, lines := startFake(t, "run", ":")
			awaitLine(t, lines, "fake runs")
			raise(t, cmd, s, s)
			got = end(cmd)
			ok = got.Exited() && got.ExitStatus() == 0
		}
		if !ok {
			t.Errorf("%v twice: got status %#x, want 0", s, got)
		}
	}
}

func TestSecondSignalKillsWhereItWasIgnoredAtStart(t *testing.T) {
	cmd, lines := startFake(t, "stubborn", `trap "" INT`)
	awaitLine(t, lines, "fake runs")
	raise(t, cmd, syscall.SIGINT)
	awaitLine(t, lines, "fake stops")
	insist(cmd, syscall.SIGINT)
	if got, want := end(cmd), 128+int(syscall.SIGINT); got.ExitStatus() != want {
		t.Errorf("got status %d, want %d", got.ExitStatus(), want)
	}
}

// TestSecondSignalIsNotLostAtTheEnd sends two signals of which the second may
// find the process at any point of its way out: it ends in any case.
func TestSecondSignalIsNotLostAtTheEnd(t *testing.T) {
	for range 10 {
		cmd, lines := startFake(t, "run", ":")
		awaitLine(t, lines, "fake runs")
		raise(t, cmd, syscall.SIGTERM)
		awaitLine(t, lines, "fake stops")
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone by now
		if got := end(cmd); got.Signaled() && got.Signal() != syscall.SIGTERM || got.Exited() && got.ExitStatus() != 0 {
			t.Fatalf("got status %#x, want 0 or the end that SIGTERM makes", got)
		}
	}
}

func TestLogThatNobodyReadsEndsNothing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(exe)
	cmd.Args = []string{"vxsnd", "-D", "-c", os.DevNull}
	cmd.Env = append(os.Environ(), serviceVar+"=run", "RUNTIME_DIRECTORY="+t.TempDir())
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() && !strings.Contains(lines.Text(), "fake runs") {
	}
	r.Close()
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want status 0; stderr: %s", err, stderr.String())
	}
	if want := "vxsnd: warning: log destination takes nothing"; !strings.Contains(stderr.String(), want) {
		t.Errorf("got %q on stderr, want %q in it", stderr.String(), want)
	}
}
