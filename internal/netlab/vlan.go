// SPDX-License-Identifier: Apache-2.0

package netlab

import "sync"

var tryVLANs = sync.OnceValue(func() error {
	l := New()
	defer l.Close()
	n, err := l.Namespace("probe")
	if err != nil {
		return err
	}
	if err := n.AddExternalVXLAN("vxlan", ExternalVXLAN{}); err != nil {
		return err
	}
	if err := n.AddBridge("br", 0); err != nil {
		return err
	}
	if err := n.SetMaster("vxlan", "br"); err != nil {
		return err
	}
	return n.MapVLANs("br", "vxlan", 2, 0, 2)
})

// HasBridgeVLANs tells whether the kernel has bridges whose VLANs can be mapped
// to VNIs (CONFIG_BRIDGE_VLAN_FILTERING): its error says why not.
func HasBridgeVLANs() error { return tryVLANs() }
