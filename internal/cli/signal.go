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

	"github.com/sirupsen/logrus"
)

// echo is the time within which a signal that comes again is the same request:
// timeout(1) signals the process and then its group.
const echo = 50 * time.Millisecond

// catchSignals returns a context that SIGTERM and SIGINT cancel; a second one
// of them kills, unless it is an echo of the first. SIGHUP is caught and logged: it would end a daemon that is
// asked to reload. SIGPIPE is ignored: packets are flooded although nobody
// reads the log any more. The function returned ends all but that, and waits
// until it has ended.
func catchSignals(ctx context.Context, log logrus.FieldLogger) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signal.Ignore(syscall.SIGPIPE)
	// The channel has room for those that come at once, and stays registered
	// after the first: if the signals got their usual effect back then, a
	// second one that comes meanwhile would be lost.
	end := make(chan os.Signal, 4)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		var first os.Signal
		var at time.Time
		for s := range end {
			switch {
			case first == nil:
				first, at = s, time.Now()
				cancel()
			case s != first || time.Since(at) >= echo:
				die(s.(syscall.Signal))
			}
		}
	})
	wg.Go(func() {
		for range hup {
			log.Warn("reload comes with a later version: restart to change the configuration")
		}
	})
	return ctx, func() {
		// Nothing is sent on a channel after Stop, and what was sent before is
		// still received: a second signal kills here too.
		signal.Stop(end)
		signal.Stop(hup)
		close(end)
		close(hup)
		wg.Wait()
		cancel()
	}
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
