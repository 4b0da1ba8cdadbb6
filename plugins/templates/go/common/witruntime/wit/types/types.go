// Package types has the generic types of WIT. It has the interface that the bindings of `wit-bindgen go` expect.
package types

// Unit is a value without content.
type Unit struct{}

// The cases of an Option and of a Result.
const (
	OptionNone = 0
	OptionSome = 1
	ResultOk   = 0
	ResultErr  = 1
)

// Option is a value or none.
type Option[T any] struct {
	tag   uint8
	value T
}

// Some is an Option with a value.
func Some[T any](value T) Option[T] { return Option[T]{OptionSome, value} }

// None is an Option without a value.
func None[T any]() Option[T] { return Option[T]{} }

// Tag is OptionNone or OptionSome.
func (option Option[T]) Tag() uint8 { return option.tag }

// IsSome says whether there is a value.
func (option Option[T]) IsSome() bool { return option.tag == OptionSome }

// IsNone says whether there is no value.
func (option Option[T]) IsNone() bool { return option.tag == OptionNone }

// Some returns the value, and panics without one.
func (option Option[T]) Some() T {
	if option.tag != OptionSome {
		panic("the option has no value")
	}
	return option.value
}

// SomeOr returns the value, or another one.
func (option Option[T]) SomeOr(other T) T {
	if option.tag != OptionSome {
		return other
	}
	return option.value
}

// Result is a value or an error.
type Result[T any, E any] struct {
	tag   uint8
	value T
	err   E
}

// Ok is a Result with a value.
func Ok[T any, E any](value T) Result[T, E] { return Result[T, E]{tag: ResultOk, value: value} }

// Err is a Result with an error.
func Err[T any, E any](err E) Result[T, E] { return Result[T, E]{tag: ResultErr, err: err} }

// Tag is ResultOk or ResultErr.
func (result Result[T, E]) Tag() uint8 { return result.tag }

// IsOk says whether there is a value.
func (result Result[T, E]) IsOk() bool { return result.tag == ResultOk }

// IsErr says whether there is an error.
func (result Result[T, E]) IsErr() bool { return result.tag == ResultErr }

// Ok returns the value, and panics if there is an error.
func (result Result[T, E]) Ok() T {
	if result.tag != ResultOk {
		panic("the result is an error")
	}
	return result.value
}

// Err returns the error, and panics if there is none.
func (result Result[T, E]) Err() E {
	if result.tag != ResultErr {
		panic("the result is no error")
	}
	return result.err
}

// Tuples of up to five values.
type (
	Tuple1[A any]    struct{ F0 A }
	Tuple2[A, B any] struct {
		F0 A
		F1 B
	}
	Tuple3[A, B, C any] struct {
		F0 A
		F1 B
		F2 C
	}
	Tuple4[A, B, C, D any] struct {
		F0 A
		F1 B
		F2 C
		F3 D
	}
	Tuple5[A, B, C, D, E any] struct {
		F0 A
		F1 B
		F2 C
		F3 D
		F4 E
	}
)
