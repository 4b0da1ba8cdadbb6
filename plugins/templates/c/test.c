// The tests, for this machine: `make test`.
#include "greeting.h"

#include <assert.h>

int main(void) {
    char text[64];
    greet(text, sizeof text, "Hello", "/");
    assert(strcmp(text, "Hello, world\n") == 0);
    greet(text, sizeof text, "Good morning", "/Ada/?x");
    assert(strcmp(text, "Good morning, Ada\n") == 0);
    assert(greet(text, 8, "Hello", "/somebody") == 7);
    return 0;
}
