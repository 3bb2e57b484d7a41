// SPDX-License-Identifier: Apache-2.0

package peer

// TakeRoom takes all places of large answers.
func (g *Group) TakeRoom() {
	for range maxLarge {
		g.largeAnswers <- struct{}{}
	}
}
