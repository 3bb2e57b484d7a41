// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/process"
)

// It pings at a third of the interval, and looks at what was stuck again soon.
func TestRunWatchdog(t *testing.T) {
	m := newManager(t)
	n := m.notifier(t, "3000000")
	log, hook := test.NewNullLogger()
	var stuck atomic.Bool
	errStuck := errors.New("worker 1 is stuck")
	alive := func() error {
		if stuck.Load() {
			return errStuck
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- process.RunWatchdog(ctx, n, alive, log) }()
		for _, tt := range []struct {
			name  string
			after time.Duration // the step before
			stuck bool
			ping  bool
			level logrus.Level // of the line, Panic for none
		}{
			{"first", 0, false, true, logrus.PanicLevel},
			{"second", time.Second, false, true, logrus.PanicLevel},
			{"stuck", time.Second, true, false, logrus.ErrorLevel},
			{"still stuck", time.Second / 2, true, false, logrus.PanicLevel},
			{"goes on", time.Second / 2, false, true, logrus.InfoLevel},
			{"alive", time.Second, false, true, logrus.PanicLevel},
			{"stuck again", time.Second, true, false, logrus.ErrorLevel},
		} {
			stuck.Store(tt.stuck)
			if tt.after > 0 {
				<-time.After(tt.after - time.Nanosecond)
				synctest.Wait()
				if got := m.pending(); got != nil {
					t.Errorf("%s: got %q before its time", tt.name, got)
				}
				<-time.After(time.Nanosecond)
			}
			synctest.Wait()
			var want []string
			if tt.ping {
				want = []string{"WATCHDOG=1"}
			}
			if got := m.pending(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", tt.name, got, want)
			}
			entries := hook.AllEntries()
			hook.Reset()
			switch {
			case tt.level == logrus.PanicLevel:
				if len(entries) != 0 {
					t.Errorf("%s: got line %q, want none", tt.name, entries[0].Message)
				}
			case len(entries) != 1 || entries[0].Level != tt.level:
				t.Errorf("%s: got %d lines, want one of level %v", tt.name, len(entries), tt.level)
			case tt.stuck && entries[0].Data[logrus.ErrorKey] != errStuck:
				t.Errorf("%s: got error %v, want %v", tt.name, entries[0].Data[logrus.ErrorKey], errStuck)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("got %v, want nil", err)
		}
	})
}

func TestRunWatchdogNobody(t *testing.T) {
	for _, n := range []*process.Notifier{nil, newManager(t).notifier(t, "")} {
		alive := func() error { t.Error("got a call, want none: nobody watches"); return nil }
		if err := process.RunWatchdog(t.Context(), n, alive, nil); err != nil {
			t.Errorf("got %v, want nil", err)
		}
	}
}
