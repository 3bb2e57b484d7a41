// SPDX-License-Identifier: Apache-2.0

package e2e

// The management socket is no load: large answers, clients that hang and many
// clients at once hold up neither packets, nor each other, nor the stop.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// bigFirst is the first of bigVNIs VNIs with bigMembers each, more than
	// 100,000 in all.
	bigFirst, bigVNIs, bigMembers = 1000, 400, 256
)

// bigAddr returns the address of a member of each of the VNIs.
func bigAddr(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|9<<16|uint32(i+1))
	return netip.AddrFrom4(b)
}

// registerBig makes the agent register them, in steps that the node has taken
// in before the next.
func (a *agent) registerBig() {
	a.lab.t.Helper()
	const step = 20
	var addrs []netip.Addr
	for i := range bigMembers {
		addrs = append(addrs, bigAddr(i))
	}
	for i := 0; i < bigVNIs; i += step {
		r := &vxfld.Refresh{Originator: true, Holdtime: 300}
		for j := range step {
			r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: vxlan.VNI(bigFirst + i + j), Addrs: addrs})
		}
		a.send(vxfld.V2, r)
		a.ask()
	}
}

// wantBig fails the test unless the members of each VNI are those registered,
// in order.
func wantBig(t *testing.T, name string, got map[vxlan.VNI][]netip.Addr) {
	t.Helper()
	delete(got, markerVNI)
	delete(got, controlVNI)
	if len(got) != bigVNIs {
		t.Errorf("%s: got %d vnis, want %d", name, len(got), bigVNIs)
	}
	for vni, addrs := range got {
		ok := vni >= bigFirst && vni < bigFirst+bigVNIs && len(addrs) == bigMembers
		for i, a := range addrs {
			ok = ok && a == bigAddr(i)
		}
		if !ok {
			t.Fatalf("%s: vni %d: got %d members %v…, want %d in order", name, vni, len(addrs), addrs[:min(3, len(addrs))], bigMembers)
		}
	}
}

// Tables of more than 100,000 members are listed in each format while packets
// are flooded, and while a client hangs in the middle of its answer: the lists
// are complete, and each packet is copied once and in order.
func TestControlListsWhileFlooding(t *testing.T) {
	t.Parallel()
	const burst, atLeast = 50, 20
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{controlVNI}, vs...))
	vs[1].agent(n).registerBig()
	n.hang()
	lists := []*ctl{n.ctl("fdb"), n.ctl("fdb", "-j"), n.ctl("fdb", "--json")}
	listed := func() bool {
		for _, c := range lists {
			select {
			case <-c.Done():
			default:
				return false
			}
		}
		return true
	}
	packets, ctx := 0, within(t)
	for round := 0; round < atLeast || !listed() && ctx.Err() == nil; round++ {
		var fs [][]byte
		for range burst {
			fs = append(fs, frame(netlab.Broadcast, packets, 64))
			packets++
		}
		vs[0].flood(n, controlVNI, fs...)
		// Not more under way than buffers hold: loss for want of room is not what
		// this is about.
		vs[0].flush(n, vs...)
	}
	for _, v := range vs[1:] {
		got := v.got()
		if len(got) != packets {
			t.Errorf("%s: got %d packets, want %d", v.Name, len(got), packets)
		}
		for i, g := range got {
			if number(g.inner) != i {
				t.Fatalf("%s: got packet %d at position %d", v.Name, number(g.inner), i)
			}
		}
	}

	text, vni := make(map[vxlan.VNI][]netip.Addr), vxlan.VNI(0)
	for i, line := range slices.Collect(strings.Lines(lists[0].printed())) {
		words := strings.Fields(line)
		if i < 2 {
			continue // the head
		}
		if line[0] != ' ' {
			vni, words = must(vxlan.ParseVNI(words[0]))(t), words[1:]
		}
		text[vni] = append(text[vni], must(netip.ParseAddr(words[0]))(t))
	}
	wantBig(t, "text", text)

	var rows map[string][][3]string
	check(t, json.Unmarshal([]byte(lists[1].printed()), &rows))
	deployed := make(map[vxlan.VNI][]netip.Addr)
	for name, rs := range rows {
		vni := must(vxlan.ParseVNI(name))(t)
		for _, r := range rs {
			deployed[vni] = append(deployed[vni], must(netip.ParseAddr(r[0]))(t))
		}
	}
	wantBig(t, "deployed", deployed)

	var entries control.FDBPart
	check(t, json.Unmarshal([]byte(lists[2].printed()), &entries))
	full := make(map[vxlan.VNI][]netip.Addr)
	for _, e := range entries {
		full[vxlan.VNI(e.VNI)] = append(full[vxlan.VNI(e.VNI)], e.Address)
	}
	wantBig(t, "full", full)
}

// A hung client has asked for something and does not read on.
type hung struct {
	net.Conn
	*bufio.Reader
}

func (h hung) Read(b []byte) (int, error) { return h.Reader.Read(b) }

// hang connects a client that reads the beginning of the answer and no more; that
// of no request in particular is the whole table.
func (n *node) hang(request ...string) hung {
	n.lab.t.Helper()
	c := must(net.Dial("unix", n.file("vxsnd.sock")))(n.lab.t)
	n.lab.t.Cleanup(func() { c.Close() })
	if request == nil {
		request = []string{`{"version":1,"command":"fdb"}`}
	}
	must(io.WriteString(c, request[0]+"\n"))(n.lab.t)
	h := hung{c, bufio.NewReader(c)}
	check(n.lab.t, c.SetReadDeadline(time.Now().Add(patience)))
	must(h.Peek(1))(n.lab.t)
	return h
}

// rest reads on, to the end of the connection or of the answer, and returns the
// last line; one that is cut short has no newline.
func (h hung) rest() (last string) {
	for {
		line, err := h.ReadString('\n')
		if line != "" {
			last = line
		}
		if err != nil || !strings.HasPrefix(line, `{"version":1,"data":`) {
			return last
		}
	}
}

// bigConfig makes the members of the big table static ones.
func bigConfig() string {
	var vnis, out strings.Builder
	for i := range bigVNIs {
		fmt.Fprintf(&vnis, " %d", bigFirst+i)
	}
	for i := range bigMembers {
		fmt.Fprintf(&out, "vtep_membership = %s%s\n", bigAddr(i), vnis.String())
	}
	return out.String()
}

const answerEnd = `{"version":1,"end":true}` + "\n"

// While a client leaves its answer unread others are answered, members
// register and packets are copied; when it reads on it gets the rest.
func TestControlClientThatHangs(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), bigConfig())
	a := vs[1].agent(n)
	// The node gives up on a client after a while. That this one still gets its
	// rest shows that the others did not wait for that; on a machine that slow it
	// takes another go.
	round := uint64(0)
	check(t, netlab.Wait(within(t), "others served while a client hangs", func() bool {
		round++
		h := n.hang()
		if s := n.status(); s.Members != bigVNIs*bigMembers+len(vs)+int(round)-1 {
			t.Errorf("got %d members, want those configured", s.Members)
		}
		if got := len(n.entries(bigFirst)); got != bigMembers {
			t.Errorf("got %d entries, want %d", got, bigMembers)
		}
		n.ctl("fdb", "-j").printed()
		a.register(controlVNI+vxlan.VNI(round), 300, round)
		wantMember(t, n, vs[0], vs[1], controlVNI+vxlan.VNI(round), true)
		return h.rest() == answerEnd
	}))
}

// gate stands before the node's socket. It lets one client ask, and the first
// bytes of the answer through; the rest waits until open is called, which
// returns when all has gone through.
func (n *node) gate(name string) (passed <-chan struct{}, open func()) {
	t := n.lab.t
	t.Helper()
	l := must(net.Listen("unix", n.file(name)))(t)
	some, opened, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(opened) })
	go func() {
		defer close(done)
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		daemon, err := net.Dial("unix", n.file("vxsnd.sock"))
		if err != nil {
			t.Error(err)
			return
		}
		defer daemon.Close()
		request, err := bufio.NewReader(client).ReadString('\n')
		if err == nil {
			_, err = io.WriteString(daemon, request)
		}
		if err == nil {
			_, err = io.CopyN(client, daemon, 1000)
		}
		if err != nil {
			t.Error(err)
			return
		}
		close(some)
		<-opened
		_, _ = io.Copy(client, daemon) // the daemon may have cut it short
	}()
	t.Cleanup(func() { l.Close(); end(); <-done })
	return some, func() { end(); <-done }
}

// A stop cuts answers short, and says so to who reads; it does not wait for who
// does not. Packets that came before it are copied.
func TestControlStopWhileAnswering(t *testing.T) {
	t.Parallel()
	const packets = 50
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", memberConfig([]vxlan.VNI{controlVNI}, vs...), bigConfig())
	var cs []*ctl
	var opens []func()
	for i, args := range [][]string{{"fdb"}, {"fdb", "-j"}, {"fdb", "--json"}} {
		name := fmt.Sprintf("gate%d", i)
		passed, open := n.gate(name)
		cs = append(cs, n.ctl(append([]string{"-u", n.file(name)}, args...)...))
		opens = append(opens, open)
		select {
		case <-passed:
		case <-within(t).Done():
			t.Fatal("got no answer")
		}
	}
	h := n.hang()
	for i := range packets {
		vs[0].flood(n, controlVNI, frame(netlab.Broadcast, i, 64))
	}
	check(t, n.proc.Signal(os.Interrupt))
	// The file goes first. No answer ends well from then on.
	check(t, netlab.Wait(within(t), "end of the socket", func() bool {
		_, err := os.Stat(n.file("vxsnd.sock"))
		return errors.Is(err, os.ErrNotExist)
	}))
	for i, open := range opens {
		open()
		// On a slow machine the time to say why may have gone by.
		hint, why := "try again when it runs again", "the daemon stops"
		if must(cs[i].Wait(within(t)))(t); !strings.Contains(cs[i].stderr.String(), why) {
			hint, why = "it stopped, or the answer was not read for too long: try again", "the daemon closed the connection"
		}
		cs[i].refused(hint, why)
		if json.Valid([]byte(cs[i].Output())) {
			t.Errorf("got JSON that is whole out of an answer that is not")
		}
	}
	n.ended = append(n.ended, n.proc)
	if status := must(n.proc.Wait(within(t)))(t); status != 0 {
		t.Errorf("got status %d, want 0; output:\n%s", status, tail(n.proc.Output()))
	}
	if last := h.rest(); last == answerEnd {
		t.Errorf("got the whole answer, want it cut short")
	}
	if got := vs[1].await(packets); len(got) != packets {
		t.Errorf("got %d copies, want %d", len(got), packets)
	}
}

// A hundred clients are served at once, each in full, and stay connected; that
// keeps nobody out.
func TestControlHundredClients(t *testing.T) {
	t.Parallel()
	const clients, members = 100, 1200
	l := newLab(t, 0)
	var config strings.Builder
	for i := range members {
		fmt.Fprintf(&config, "vtep_membership = %s %d\n", bigAddr(i), controlVNI)
	}
	n := l.node(config.String())
	ctx := within(t)
	var cs []*control.Client
	for range clients {
		c := must(control.Dial(ctx, n.file("vxsnd.sock")))(t)
		t.Cleanup(func() { c.Close() })
		cs = append(cs, c)
	}
	got := make([]int, clients)
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() {
			err := c.Call(ctx, control.CommandFDB, nil, func(data json.RawMessage) error {
				var part control.FDBPart
				err := json.Unmarshal(data, &part)
				got[i] += len(part)
				return err
			})
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != members {
			t.Errorf("client %d: got %d members, want %d", i, got[i], members)
		}
	}
	// Root has four places more. When those are taken as well, a new client gets
	// the place of one that asks for nothing.
	for range 5 {
		c := must(control.Dial(ctx, n.file("vxsnd.sock")))(t)
		t.Cleanup(func() { c.Close() })
	}
	if status := must(n.ctl("show").Wait(ctx))(t); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
}
