// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// Where a log goes to in tests: a syslogd, a pipe, or a disk, each of which can
// be made to take nothing.

// A sink is what a log goes to.
type sink interface {
	hang()        // from now on it takes nothing
	resume()      // and now again
	text() string // all lines that it has taken, in order
}

// mountSpace makes a mount namespace in which something is mounted, as said by
// the arguments of mount(8). It returns what a command has to start with to run
// there, and the path by which the test sees it. It goes with the lab, and
// nothing is left on the machine.
func (n *node) mountSpace(mount ...string) (enter []string, root string) {
	n.lab.t.Helper()
	// A thread of the test cannot hold it: what netlab started from a thread is
	// killed when that ends.
	cmd := exec.Command("sh", append([]string{"-c", `mount "$@" && echo mounted && exec sleep infinity`, "sh"}, mount...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p := must(n.Start(cmd))(n.lab.t)
	must(p.WaitLine(within(n.lab.t), func(line string) bool { return line == "mounted" }))(n.lab.t)
	dir := fmt.Sprintf("/proc/%d/", p.PID())
	return []string{"nsenter", "--mount=" + dir + "ns/mnt"}, dir + "root"
}

// logDir makes a directory that a node of any user can reach.
func logDir(t *testing.T) string {
	t.Helper()
	dir := must(os.MkdirTemp(binaryDir, "log-"))(t)
	check(t, os.Chmod(dir, 0o777))
	return dir
}

// in returns the program under test as a command behind others, such as those
// that mountSpace returns.
func in(t *testing.T, enter ...string) *exec.Cmd {
	t.Helper()
	return exec.Command(enter[0], append(enter[1:], program(t))...)
}

// An intake collects what it reads.
type intake struct {
	conn interface {
		io.ReadCloser
		SetReadDeadline(time.Time) error
	}
	t    *testing.T
	done chan struct{} // closed when nobody reads any more

	mu    sync.Mutex
	parts []string // guarded by mu
}

func (i *intake) resume() {
	check(i.t, i.conn.SetReadDeadline(time.Time{}))
	done := make(chan struct{})
	i.done = done
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			k, err := i.conn.Read(b)
			if err != nil {
				return
			}
			i.mu.Lock()
			i.parts = append(i.parts, string(b[:k]))
			i.mu.Unlock()
		}
	}()
}

func (i *intake) hang() {
	check(i.t, i.conn.SetReadDeadline(time.Unix(0, 1)))
	<-i.done
}

// close ends reading.
func (i *intake) close() {
	i.conn.Close()
	<-i.done
}

// all returns what was read, part by part.
func (i *intake) all() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.parts)
}

// A devLog is /dev/log of a node, with a syslogd that can be ended and started.
type devLog struct {
	t         *testing.T
	dir       string // /dev of the node, a directory of the test's own
	enter     []string
	syslogds  []*intake // all that there were
	listening bool
}

// devLog returns one without a syslogd.
func (n *node) devLog() *devLog {
	n.lab.t.Helper()
	d := &devLog{t: n.lab.t, dir: logDir(n.lab.t)}
	d.enter, _ = n.mountSpace("--bind", d.dir, "/dev")
	n.lab.t.Cleanup(d.end)
	return d
}

// start starts a syslogd.
func (d *devLog) start() {
	d.t.Helper()
	conn := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(d.dir, "log"), Net: "unixgram"}))(d.t)
	i := &intake{conn: conn, t: d.t}
	i.resume()
	d.syslogds = append(d.syslogds, i)
	d.listening = true
}

// end ends the syslogd, if there is one, and takes its socket away.
func (d *devLog) end() {
	if !d.listening {
		return
	}
	d.listening = false
	d.last().close()
	os.Remove(filepath.Join(d.dir, "log"))
}

func (d *devLog) last() *intake { return d.syslogds[len(d.syslogds)-1] }

func (d *devLog) hang() { d.last().hang() }

func (d *devLog) resume() { d.last().resume() }

// messages returns what the syslogds were sent.
func (d *devLog) messages() (ms []string) {
	for _, s := range d.syslogds {
		ms = append(ms, s.all()...)
	}
	return ms
}

// syslogMessage matches a message as RFC 3164 has it, without the name of the
// machine, as local programs send it: priority, identifier, process id, text.
var syslogMessage = regexp.MustCompile(`^<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ([^][: ]+)\[(\d+)\]: ([^\n]+)$`)

// text returns the lines of the messages, without what comes before.
func (d *devLog) text() string {
	var out strings.Builder
	for _, m := range d.messages() {
		parts := syslogMessage.FindStringSubmatch(m)
		if parts == nil {
			d.t.Errorf("got message %q, want one of RFC 3164", m)
			continue
		}
		out.WriteString(parts[4] + "\n")
	}
	return out.String()
}

// A pipe is one that a node writes to as its standard output.
type pipe struct{ *intake }

// newPipe makes one, and what a command starts with that is to write to it.
func newPipe(t *testing.T) (p pipe, enter []string) {
	t.Helper()
	name := filepath.Join(logDir(t), "pipe")
	check(t, unix.Mkfifo(name, 0o666))
	// Open for both directions the pipe never ends, and there is no wait for the
	// program.
	f := must(os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0))(t)
	p = pipe{&intake{conn: f, t: t}}
	p.resume()
	t.Cleanup(p.close)
	return p, []string{"sh", "-c", `exec "$@" >"$0"`, name}
}

func (p pipe) text() string { return strings.Join(p.all(), "") }

// A disk is a small file system with the directory of a log file.
type disk struct {
	t    *testing.T
	name string   // of the log file, for the node
	file string   // the same for the test
	root []string // what a command starts with to see the disk
}

// disk makes one with room for size bytes.
func (n *node) disk(size int) *disk {
	n.lab.t.Helper()
	dir := logDir(n.lab.t)
	enter, root := n.mountSpace("-t", "tmpfs", "-o", fmt.Sprintf("mode=0777,size=%d", size), "tmpfs", dir)
	name := filepath.Join(dir, "vxsnd.log")
	return &disk{n.lab.t, name, root + name, enter}
}

func (d *disk) ballast() string { return filepath.Join(filepath.Dir(d.file), "ballast") }

// hang fills the disk.
func (d *disk) hang() {
	d.t.Helper()
	f := must(os.Create(d.ballast()))(d.t)
	defer f.Close()
	var err error
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	if !errors.Is(err, unix.ENOSPC) {
		d.t.Fatal(err)
	}
}

func (d *disk) resume() {
	d.t.Helper()
	check(d.t, os.Remove(d.ballast()))
}

func (d *disk) text() string { return generations(d.t, d.file) }

// generations returns all lines in a log file and in those before it, the oldest
// first. While files are rotated some may be missing.
func generations(t *testing.T, name string) string {
	t.Helper()
	older := map[int]string{}
	for _, f := range must(filepath.Glob(name + ".*"))(t) {
		number, packed := strings.CutSuffix(strings.TrimPrefix(f, name+"."), ".gz")
		k, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		b := contents(t, f)
		if packed && older[k] != "" {
			continue // compressed, and not removed yet
		}
		if packed && b != "" {
			z := must(gzip.NewReader(strings.NewReader(b)))(t)
			b = string(must(io.ReadAll(z))(t))
		}
		older[k] = b
	}
	var all bytes.Buffer
	for k := len(older); k > 0; k-- {
		all.WriteString(older[k])
	}
	return all.String() + contents(t, name)
}

// contents returns what a file has, nothing where there is none.
func contents(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return string(b)
}

// registerAll registers the agent with one message for each holdtime from first
// up to, but not including, end, and waits until the node has taken them in, and
// floods to it.
func (a *agent) registerAll(vni vxlan.VNI, first, end uint32) {
	a.lab.t.Helper()
	for h := first; h < end; h++ {
		a.send(vxfld.V3, &vxfld.Refresh{
			Originator: true, Holdtime: h, Identifier: 5,
			VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{a.addr}}},
		})
	}
	if got := a.ask(vni)[vni]; !slices.Contains(got, a.addr) {
		a.lab.t.Errorf("got members %v, want %s that has registered", got, a.addr)
	}
	a.settled()
}

// holdtimes returns those of the registrations in a log, in its order, from
// first on.
func holdtimes(t *testing.T, log string, first uint32) (hs []uint32) {
	t.Helper()
	for _, v := range values(with(lines(log), msgRegistered), "holdtime") {
		if h := must(strconv.ParseUint(v, 10, 32))(t); uint32(h) >= first {
			hs = append(hs, uint32(h))
		}
	}
	return hs
}

// reportedLost returns how many lost lines a log tells of.
func reportedLost(t *testing.T, log string) (count uint64) {
	t.Helper()
	for _, v := range values(with(lines(log), "log lines lost"), "count") {
		count += must(strconv.ParseUint(v, 10, 64))(t)
	}
	return count
}

// waitFor waits for a condition that the log comes to meet.
func (n *node) waitFor(what string, cond func() bool) {
	n.lab.t.Helper()
	if err := netlab.Wait(within(n.lab.t), what, cond); err != nil {
		n.lab.t.Fatalf("%v; output:\n%s\nlog:\n%s", err, tail(n.proc.Output()), tail(n.elsewhere()))
	}
}
