// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// again is the time between two looks at a daemon that did not seem alive.
const again = 500 * time.Millisecond

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
	var last error
	for {
		wait := interval
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
		if last = err; err != nil {
			// After a pause of the whole machine this look comes before the parts have
			// shown that they live: the next must not come too late for that.
			wait = min(wait, again)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
