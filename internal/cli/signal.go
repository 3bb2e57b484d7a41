// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// echo is the time within which a signal that comes again is the same request:
// timeout(1) signals the process and then its group.
const echo = 50 * time.Millisecond

// signals is what a daemon is told by signals, until release.
type signals struct {
	reload  chan os.Signal // holds a value after SIGHUP
	summary chan os.Signal // holds a value after SIGUSR1
	release func()         // ends the rest, and waits until it has ended
}

// catchRequests begins to catch the signals that are no reason to end, which is
// for the very start: by default they would end it. SIGHUP and SIGUSR1 wait for
// who takes them, any number of one kind as one. SIGPIPE is ignored: packets are
// flooded although nobody reads the log any more.
func catchRequests() *signals {
	signal.Ignore(syscall.SIGPIPE)
	s := &signals{reload: make(chan os.Signal, 1), summary: make(chan os.Signal, 1), release: func() {}}
	signal.Notify(s.reload, syscall.SIGHUP)
	signal.Notify(s.summary, syscall.SIGUSR1)
	return s
}

// catchEnd begins to catch SIGTERM and SIGINT, which end the context; a second
// one of them kills, unless it is an echo of the first. Where restart is not nil,
// SIGUSR2 does the same, with restart as the cause.
func (s *signals) catchEnd(ctx context.Context, restart error) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	// The channel has room for those that come at once, and stays registered
	// after the first: if the signals got their usual effect back then, a
	// second one that comes meanwhile would be lost.
	end := make(chan os.Signal, 4)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	if restart != nil {
		signal.Notify(end, syscall.SIGUSR2)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var first os.Signal
		var at time.Time
		for s := range end {
			switch {
			case first == nil:
				first, at = s, time.Now()
				if s == syscall.SIGUSR2 {
					cancel(restart)
				}
				cancel(nil)
			case s != first || time.Since(at) >= echo:
				die(s.(syscall.Signal))
			}
		}
	})
	s.release = func() {
		// Nothing is sent on a channel after Stop, and what was sent before is
		// still received: a second signal kills here too. SIGHUP and SIGUSR1 stay
		// caught, since their usual effect is to kill what is on its way out.
		signal.Stop(end)
		close(end)
		wg.Wait()
		cancel(nil)
	}
	return ctx
}

// die ends the process as signal s does where nobody catches it.
func die(s syscall.Signal) {
	signal.Reset(s)
	// A signal to the calling thread takes effect before the call returns; one
	// to the process may be taken by another thread later.
	runtime.LockOSThread()
	_ = syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), s)
	// The signal was ignored when the process started, as SIGINT is in a job
	// that a script puts into the background, and now it is again.
	os.Exit(128 + int(s))
}
