package clearnodetest

import (
	"encoding/binary"

	"github.com/ethereum/go-ethereum/common"
)

// abiValue is an argument in Solidity's ABI: 32 bytes in place, or anything behind an offset.
type abiValue struct {
	bytes   []byte
	dynamic bool
}

func abiDynamic(b []byte) abiValue { return abiValue{b, true} }
func abiNumber(n uint64) abiValue {
	return abiValue{word(binary.BigEndian.AppendUint64(nil, n)), false}
}
func abiAddress(text string) abiValue {
	return abiValue{word(common.HexToAddress(text).Bytes()), false}
}
func abiHash(text string) abiValue { return abiValue{common.HexToHash(text).Bytes(), false} }
func abiText(text string) abiValue {
	padded := append([]byte(text), make([]byte, (32-len(text)%32)%32)...)
	return abiDynamic(append(abiNumber(uint64(len(text))).bytes, padded...))
}

func abiArray(elements ...abiValue) abiValue {
	return abiDynamic(append(abiNumber(uint64(len(elements))).bytes, abiTuple(elements...)...))
}

// abiTuple puts values, or the offsets of dynamic ones, side by side, and the dynamic ones behind.
func abiTuple(values ...abiValue) []byte {
	size := 0
	for _, v := range values {
		size += v.inPlace()
	}
	var head, tail []byte
	for _, v := range values {
		if !v.dynamic {
			head = append(head, v.bytes...)
			continue
		}
		head = append(head, abiNumber(uint64(size+len(tail))).bytes...)
		tail = append(tail, v.bytes...)
	}
	return append(head, tail...)
}

func (v abiValue) inPlace() int {
	if v.dynamic {
		return 32
	}
	return len(v.bytes)
}
