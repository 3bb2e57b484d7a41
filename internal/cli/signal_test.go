// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
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
	log, hook := test.NewNullLogger()
	ctx, release := catchSignals(context.Background(), log)
	defer release()
	raise := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	raise(syscall.SIGHUP)
	if !waitFor(func() bool { return len(hook.AllEntries()) == 1 }) {
		t.Fatal("got no line at SIGHUP")
	}
	if e := hook.LastEntry(); e.Level != logrus.WarnLevel || ctx.Err() != nil {
		t.Errorf("got level %v and %v at SIGHUP, want a warning and no end", e.Level, ctx.Err())
	}
	raise(syscall.SIGTERM)
	<-ctx.Done()
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
	cmd.Env = append(os.Environ(), serviceVar+"=run")
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
