// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// RunWatchdog pings the service manager at a third of the interval that it asks
// for, while alive returns nil. Otherwise it sends no ping, so that the manager
// ends a daemon that stays so, and logs the error: once when that begins, and a
// line when it is over. It returns nil when ctx is done, or at once if nobody
// watches. alive is called by this goroutine alone; while it hangs there is no
// ping either, but no line and no return.
func RunWatchdog(ctx context.Context, n *Notifier, alive func() error, log logrus.FieldLogger) error {
	interval := n.Watchdog() / 3
	if interval <= 0 {
		return nil
	}
	log = logging.OrDiscard(log)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for {
		err := alive()
		switch {
		case err == nil:
			n.ping()
			if last != nil {
				log.Info("watchdog is told again that the daemon is alive")
			}
		case last == nil:
			log.WithError(err).Error("watchdog is not told that the daemon is alive")
		}
		last = err
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
