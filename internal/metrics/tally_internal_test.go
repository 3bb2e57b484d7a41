// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math/rand/v2"
	"testing"

	"vxsnd/internal/vxlan"
)

func TestFiguresWaitForWhoeverReads(t *testing.T) {
	tr := NewTraffic(TrafficLimits{VNIs: 1, Senders: 1})
	y := tr.Tally()
	d := []Delta{{VNI: 77, Known: true, Sender: true, Packets: 1}}
	y.mu.Lock()
	y.Add(1, d)
	y.Add(2, d)
	y.mu.Unlock()
	if got := tr.VNI(77).Packets; got != 0 {
		t.Errorf("while somebody reads: got %d packets, want 0", got)
	}
	y.Add(3, d)
	if got := tr.VNI(77).Packets; got != 3 {
		t.Errorf("with the next packet: got %d, want 3", got)
	}
	y.mu.Lock()
	y.Add(4, d)
	y.mu.Unlock()
	y.Flush(5)
	y.Flush(6)
	if got := tr.VNI(77).Packets; got != 4 {
		t.Errorf("after Flush: got %d, want 4", got)
	}

	// Whoever reads for ever costs rows, never packets or memory.
	y.mu.Lock()
	for range maxHeld + 10 {
		y.Add(7, d)
	}
	y.mu.Unlock()
	if len(y.held) != maxHeld {
		t.Errorf("got %d that wait, want %d", len(y.held), maxHeld)
	}
	y.Close(8)
	if got, other := tr.VNI(77).Packets, tr.Other().Packets; got != 4+maxHeld || other != 10 {
		t.Errorf("got %d, other %d, want %d, 10", got, other, 4+maxHeld)
	}
}

func TestSenderIndexAgainstAMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	rows := make([]senderRow, 200)
	var x senderIndex
	model := make(map[senderKey]uint32)
	for range 100_000 {
		at := uint32(rnd.IntN(len(rows)))
		if row := &rows[at]; row.heard { // the index has it
			x.remove(at, rows)
			delete(model, row.key)
			row.heard = false
		} else {
			key := senderKey{b: rnd.Uint64N(300), vni: vxlan.VNI(rnd.IntN(3))}
			if _, ok := model[key]; ok {
				continue
			}
			*row = senderRow{key: key, heard: true}
			x.insert(at, rows)
			model[key] = at
		}
		key := senderKey{b: rnd.Uint64N(300), vni: vxlan.VNI(rnd.IntN(3))}
		got, ok := x.find(key, rows)
		if want, there := model[key]; ok != there || ok && got != want {
			t.Fatalf("got %d, %v, want %d, %v", got, ok, want, there)
		}
	}
	for key, want := range model {
		if got, ok := x.find(key, rows); !ok || got != want {
			t.Errorf("at the end: got %d, %v, want %d", got, ok, want)
		}
	}
}
