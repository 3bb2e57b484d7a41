// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
)

// waitFor waits until cond holds, and tells whether it does in the end.
func waitFor(cond func() bool) bool {
	const patience = 20 * time.Second
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
