// The tests, which run on this machine: `make test`.
#include "greeting.h"

#include <assert.h>

int main(void) {
    char text[64];
    greet(text, sizeof text, "Hello", "/", 1);
    assert(strcmp(text, "Hello, world\n") == 0);
    greet(text, sizeof text, "Hello", "Ada\r\n", 5);
    assert(strcmp(text, "Hello, Ada\n") == 0);
    greet(text, sizeof text, "Good morning", "/Ada/?x", 7);
    assert(strcmp(text, "Good morning, Ada\n") == 0);
    assert(greet(text, 8, "Hello", "/somebody", 9) == 7);
    // An `é` is two bytes.
    assert(fitting("aé", 3, 3) == 3);
    assert(fitting("aéb", 4, 3) == 3);
    assert(fitting("aéb", 4, 2) == 1);
    assert(fitting("é", 2, 1) == 0);
    return 0;
}
