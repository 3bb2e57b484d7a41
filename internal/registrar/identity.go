// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"os"
	"strings"

	"vxsnd/internal/config"
	"vxsnd/internal/underlay"
)

// machineIDFiles are where a machine has its name (machine-id(5)); the second is
// that of systems without systemd.
var machineIDFiles = []string{"/etc/machine-id", "/var/lib/dbus/machine-id"}

// nodeID makes the identifier of registrations out of what names the machine and
// its lowest registered address. All namespaces of a machine share its id, and so
// do cloned images; the address tells them apart. It has 48 bits and is never 0,
// which stands for nobody in particular (docs/protocol.md section 3).
func nodeID(machine string, lowest netip.Addr) uint64 {
	// The machine id is not to be told to others as it is (machine-id(5)).
	sum := sha256.Sum256([]byte("vxrd\n" + machine + "\n" + lowest.String()))
	return max(binary.BigEndian.Uint64(sum[:8])>>16, 1)
}

// recall takes up the identifier of before a restart. Without it registrations go
// on as well as they can.
func (r *Registrar) recall() {
	if r.cfg.NodeID != 0 {
		return
	}
	m, id, err := openMemory(&r.cfg)
	if err != nil {
		r.log.WithError(err).Warn(forgetsText)
		return
	}
	r.memory, r.id = m, id
}

const forgetsText = "node_id may be another one after a restart"

// identify chooses the identifier of registrations, once there is something to
// register, and before it is.
func (r *Registrar) identify(cfg *config.Config, p *plan) {
	if r.identifier() != 0 || len(p.Register) == 0 {
		return
	}
	id := cfg.NodeID
	if id == 0 {
		id = nodeID(r.machine(), p.lowestLocal())
		if r.memory != nil {
			if err := r.memory.keep(id); err != nil {
				r.log.WithError(err).Warn(forgetsText)
			}
		}
	}
	r.mu.Lock()
	r.id = id
	r.mu.Unlock()
}

// machineID names this machine.
func machineID() string {
	for _, name := range machineIDFiles {
		b, err := os.ReadFile(name)
		// A system that boots for the first time may have no id yet, and says so.
		if id := strings.TrimSpace(string(b)); err == nil && id != "" && id != "uninitialized" {
			return id
		}
	}
	host, _ := os.Hostname() // without any of it, the address alone has to do
	boot, _ := underlay.BootID()
	return host + "\n" + boot
}

// lowestLocal returns the lowest local address that is registered.
func (p *plan) lowestLocal() netip.Addr {
	var lowest netip.Addr
	for i := range p.Register {
		if a := p.Register[i].Local; !lowest.IsValid() || a.Less(lowest) {
			lowest = a
		}
	}
	return lowest
}
