// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// syncHead is the length of the header of a SYNC, which any number of unknown
// fields may follow: docs/protocol.md sections 2 and 4.
const syncHead = 2

var unknownField = []byte{15 << 3, 0} // field 15, varint 0

// A deployed is a service node of the deployed suite, version 3: it keeps what
// it is sent, and says what the test has it say.
type deployed struct {
	*machine
	udp *net.UDPConn

	mu       sync.Mutex // guards what follows
	answer   []byte     // to a request for the table
	asked    int        // such requests
	digests  int        // questions of a repair
	updates  []*vxfld.Sync
	gate     chan struct{} // an answer takes until it is closed; nil for no time
	shutdown func()        // closes what listen opened
}

// deployed adds service node i of the deployed suite, with an empty table.
func (l *lab) deployed(i int) *deployed {
	l.t.Helper()
	d := &deployed{machine: l.machine(fmt.Sprintf("old%d", i), fmt.Sprintf("192.0.2.%d/24", 100+i))}
	d.udp = d.machine.listen(ctlPort)
	d.holds(vxfld.Sync{})
	d.listen()
	l.t.Cleanup(func() { d.shutdown() })
	return d
}

// holds makes s the answer to requests for the table.
func (d *deployed) holds(s vxfld.Sync) {
	d.lab.t.Helper()
	b := encode(d.lab.t, s)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = b
}

// hold makes answers to requests for the table come slowly until the function
// that it returns is called.
func (d *deployed) hold() (open func()) {
	gate := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// listen takes connections, until shutdown.
func (d *deployed) listen() {
	d.lab.t.Helper()
	var ln net.Listener
	check(d.lab.t, d.Do(func() (err error) {
		ln, err = net.Listen("tcp4", netip.AddrPortFrom(d.addr, ctlPort).String())
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { d.converse(ctx, c) })
		}
	})
	d.shutdown = sync.OnceFunc(func() {
		cancel()
		ln.Close()
		wg.Wait()
	})
}

// converse deals with one connection. It leaves its end open after an update.
func (d *deployed) converse(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	b, err := io.ReadAll(c)
	if err != nil || len(b) == 0 {
		return
	}
	m, err := vxfld.Parse(b)
	s, ok := m.Body.(*vxfld.Sync)
	if err != nil || !ok || m.Version != vxfld.V3 {
		d.lab.t.Errorf("%s: got %d bytes over TCP (%v), want a SYNC of version 3", d.Name, len(b), err)
		return
	}
	d.mu.Lock()
	answer, gate := d.answer, d.gate
	switch {
	case s.Response == vxfld.ResponseAll:
		d.asked++
	case s.Digest != nil:
		d.digests++
	case len(s.VNIs) > 0:
		d.updates = append(d.updates, s)
	}
	d.mu.Unlock()
	if s.Response != vxfld.ResponseAll {
		<-ctx.Done()
		return
	}
	// While it is held the answer comes byte by byte, so that nobody takes the
	// peer for a dead one.
	if gate != nil {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		_, _ = c.Write(answer[:syncHead])
		answer = answer[syncHead:]
		for held := true; held; {
			select {
			case <-gate:
				held = false
			case <-ctx.Done():
				return
			case <-tick.C:
				_, _ = c.Write(unknownField)
			}
		}
	}
	_, _ = c.Write(answer) // the asker may be gone
}

// tell sends bytes to a node's control port over TCP, and returns the answer.
// The node may close the connection before it has read them.
func (m *machine) tell(n *node, b []byte) (answer []byte) {
	t := m.lab.t
	t.Helper()
	var c net.Conn
	if err := m.Do(func() (err error) {
		c, err = net.Dial("tcp4", netip.AddrPortFrom(n.addr, ctlPort).String())
		return err
	}); errors.Is(err, unix.ECONNRESET) {
		return nil // turned away in that very moment
	} else if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check(t, c.SetDeadline(time.Now().Add(patience)))
	_, werr := c.Write(b)
	if werr == nil {
		werr = c.(*net.TCPConn).CloseWrite()
	}
	answer, rerr := io.ReadAll(c)
	for _, err := range []error{werr, rerr} {
		if err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ENOTCONN) {
			t.Fatal(err)
		}
	}
	return answer
}

// encode returns a SYNC as it is sent.
func encode(t *testing.T, s vxfld.Sync) []byte {
	t.Helper()
	return must(vxfld.Message{Version: vxfld.V3, Body: &s}.Append(nil))(t)
}

// told returns the updates so far: one of each connection.
func (d *deployed) told() []*vxfld.Sync {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.updates[:len(d.updates):len(d.updates)]
}

// requests returns how often the table was asked for.
func (d *deployed) requests() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// compared returns how often a repair was tried.
func (d *deployed) compared() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.digests
}

// last returns the last holdtime that an update told of a member, if any did.
func (d *deployed) last(vni vxlan.VNI, a netip.Addr) (holdtime uint32, ok bool) {
	for _, s := range d.told() {
		for _, rec := range s.VNIs {
			for _, e := range rec.Entries {
				if rec.VNI == vni && e.Addr == a {
					holdtime, ok = e.Holdtime, true
				}
			}
		}
	}
	return holdtime, ok
}

// datagrams returns the control messages that came from a machine over UDP.
func (m *machine) datagrams(from *machine) []netlab.Packet {
	m.lab.t.Helper()
	return must(m.cap.Packets(func(p *netlab.Packet) bool { return p.UDPTo(ctlPort) && p.Src == from.addr && p.Dst == m.addr }))(m.lab.t)
}

// connections returns how many TCP connections a machine has begun to the
// control port.
func (m *machine) connections(from *machine) int {
	m.lab.t.Helper()
	const flags, syn, ack = 13, 0x02, 0x10 // RFC 9293 section 3.1
	begun := must(m.cap.Packets(func(p *netlab.Packet) bool {
		return p.Protocol == unix.IPPROTO_TCP && p.Src == from.addr && p.Dst == m.addr && len(p.Body) > flags &&
			binary.BigEndian.Uint16(p.Body[2:]) == ctlPort && p.Body[flags]&(syn|ack) == syn
	}))(m.lab.t)
	return len(begun)
}

// relayed returns what a node has relayed to the peer.
func (d *deployed) relayed(n *node) (rs []*vxfld.Refresh) {
	d.lab.t.Helper()
	for _, p := range d.datagrams(n.machine) {
		m := must(vxfld.Parse(p.Payload))(d.lab.t)
		r, ok := m.Body.(*vxfld.Refresh)
		if !ok || m.Version != vxfld.V3 || r.Originator || r.Response != vxfld.ResponseNone || p.SrcPort != ctlPort || len(p.Payload) > 1500-vxfld.Overhead {
			d.lab.t.Fatalf("%s: got %d bytes from %s, version %d, %+v, want a relayed registration", d.Name, len(p.Payload), p.Source(), m.Version, m.Body)
		}
		rs = append(rs, r)
	}
	return rs
}
