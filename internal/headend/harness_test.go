// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"vxsnd/internal/headend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const interval = 10 * time.Second

// A daemon is what uses the lists, and may be started and killed many times.
type daemon struct {
	t       *testing.T
	options headend.Options
	kernel  *kernel
	logs    *logtest.Hook
	lists   *headend.Lists
	stop    context.CancelFunc
	done    chan bool // whether it ended by a crash
}

// inBubble runs a test with a daemon that has begun, in a time of its own.
func inBubble(t *testing.T, k *kernel, test func(t *testing.T, d *daemon)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k.t = t
		d := newDaemon(t, k, filepath.Join(dir, "state"))
		d.start()
		defer d.end()
		test(t, d)
	})
}

func newDaemon(t *testing.T, k *kernel, file string) *daemon {
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	return &daemon{t: t, kernel: k, logs: hook, options: headend.Options{
		StateFile: file, Namespace: "ns-1", BootID: "boot-1", Kernel: k, Log: log,
		Settings: headend.Settings{Interval: interval},
	}}
}

func (d *daemon) start() {
	d.t.Helper()
	l, err := headend.Open(d.options)
	if err != nil {
		d.t.Fatal(err)
	}
	d.lists = l
	ctx, cancel := context.WithCancel(context.Background())
	d.stop, d.done = cancel, make(chan bool, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				if r != (crashed{}) {
					panic(r)
				}
				d.done <- true
			}
		}()
		if err := l.Run(ctx); err != nil {
			d.t.Errorf("got error %v of Run, want none", err)
		}
		d.done <- false
	}()
}

// end stops Run and leaves the entries, as for a restart. It tells whether Run
// had crashed.
func (d *daemon) end() bool {
	if d.lists == nil {
		return false
	}
	d.stop()
	crash := <-d.done
	if err := d.lists.Close(); err != nil {
		d.t.Errorf("close: %v", err)
	}
	d.lists = nil
	return crash
}

func (d *daemon) restart() {
	d.t.Helper()
	d.end()
	d.start()
}

// pause is the longest that Run waits between two passes which take no time.
const pause = 100 * time.Millisecond

// settle waits until Run has nothing to do.
func (d *daemon) settle() {
	synctest.Wait()
	d.wait(pause)
}

// set has lists have these members, and waits until Run has nothing to do.
func (d *daemon) set(k headend.Key, members ...string) {
	d.lists.Set(map[headend.Key][]netip.Addr{k: addrs(members...)})
	d.settle()
}

func (d *daemon) drop(keys ...headend.Key) {
	d.lists.Drop(keys...)
	d.settle()
}

// compare waits for the next comparison with the kernel.
func (d *daemon) compare() { d.wait(interval) }

// wait lets time pass, that of the bubble of synctest which a daemon lives in.
func (d *daemon) wait(long time.Duration) {
	d.kernel.sync()
	time.Sleep(long)
	synctest.Wait()
}

// has checks what there is on a device.
func (d *daemon) has(who maker, index int, members ...string) {
	d.t.Helper()
	if got, want := d.kernel.by(who, index), addrs(members...); !slices.Equal(got, want) {
		d.t.Errorf("on device %d by %v: got %v, want %v", index, who, got, want)
	}
}

// status checks how a list does, but for its problem.
func (d *daemon) status(k headend.Key, want headend.Status) {
	d.t.Helper()
	got := d.lists.Status()[k]
	got.Problem = ""
	if got != want {
		d.t.Errorf("%v: got status %+v, want %+v", k, got, want)
	}
}

func (d *daemon) problem(k headend.Key, want string) {
	d.t.Helper()
	if got := d.lists.Status()[k].Problem; got != want {
		d.t.Errorf("%v: got problem %q, want %q", k, got, want)
	}
}

// logged counts the lines with this message, and returns the last one's count.
func (d *daemon) logged(message string) (lines int, count any) {
	for _, e := range d.logs.AllEntries() {
		if e.Message == message {
			lines++
			count = e.Data["count"]
		}
	}
	return lines, count
}

var errTest = errors.New("out of order")

var (
	one = headend.Key{Device: "vxlan1", Index: 5, VNI: 100}
	two = headend.Key{Device: "vxlan2", Index: 6, VNI: 200}
)
