// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
)

// catchSignals returns a context that SIGTERM and SIGINT cancel. From then on
// they have their usual effect, so that a second one kills. SIGHUP is caught
// and logged: it would end a daemon that is asked to reload. SIGPIPE is ignored:
// packets are flooded although nobody reads the log any more. The function
// returned ends all but that, and waits until it has ended.
func catchSignals(ctx context.Context, log logrus.FieldLogger) (context.Context, func()) {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	restore := context.AfterFunc(ctx, cancel)
	signal.Ignore(syscall.SIGPIPE)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hup:
				log.Warn("reload comes with a later version: restart to change the configuration")
			case <-done:
				return
			}
		}
	})
	return ctx, func() {
		restore()
		cancel()
		signal.Stop(hup)
		close(done)
		wg.Wait()
	}
}
