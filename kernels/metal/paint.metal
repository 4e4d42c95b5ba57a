// The painting head: masks and colours upsampled, softmax over layers, blended.

// Must equal `RawCanvas` in src/metal/paint.rs.
struct Canvas {
    uint h, w, layers;     // colour grid; the mask grid is twice as fine
    uint full_h, full_w;   // pixels that the grid covers
    uint height, width;    // pixels that are painted
    float scale;
};

struct Tap {
    uint a, b;
    float t;
};

// As `check::tap` in src/check.rs, in whole numbers: the place is `((2 i + 1) * from - full) / (2 * full)`, kept between the first and the last.
DEVICE Tap tap(uint i, uint from, uint full) {
    const int place = max(int((2 * i + 1) * from) - int(full), 0);
    const uint a = min(uint(place) / (2 * full), from - 1);
    Tap p;
    p.a = a;
    p.b = min(a + 1, from - 1);
    p.t = p.b == a ? 0.0f : float(uint(place) - a * 2 * full) / float(2 * full);
    return p;
}

DEVICE float bilinear(device const float* grid, uint width, uint channels, uint channel, Tap y, Tap x) {
    device const float* top = grid + ulong(y.a) * width * channels + channel;
    device const float* bottom = grid + ulong(y.b) * width * channels + channel;
    const float upper = (1.0f - x.t) * top[x.a * channels] + x.t * top[x.b * channels];
    const float lower = (1.0f - x.t) * bottom[x.a * channels] + x.t * bottom[x.b * channels];
    return (1.0f - y.t) * upper + y.t * lower;
}

DEVICE float unit(float x) { return fmax(0.0f, fmin(x, 1.0f)); }

// One pixel in 0..1.
DEVICE float3 paint_pixel(device const float* masks, device const float* colours, Canvas c, uint row, uint column) {
    const Tap my = tap(row, 2 * c.h, c.full_h), mx = tap(column, 2 * c.w, c.full_w);
    const Tap cy = tap(row, c.h, c.full_h), cx = tap(column, c.w, c.full_w);
    float most = -INFINITY;
    for (uint k = 0; k < c.layers; k++) most = fmax(most, bilinear(masks, 2 * c.w, c.layers, k, my, mx) * c.scale);
    float sum = 0.0f, r = 0.0f, g = 0.0f, b = 0.0f;
    for (uint k = 0; k < c.layers; k++) {
        const float e = precise::exp(bilinear(masks, 2 * c.w, c.layers, k, my, mx) * c.scale - most);
        sum += e;
        r = fma(e, bilinear(colours, c.w, 3 * c.layers, 3 * k, cy, cx), r);
        g = fma(e, bilinear(colours, c.w, 3 * c.layers, 3 * k + 1, cy, cx), g);
        b = fma(e, bilinear(colours, c.w, 3 * c.layers, 3 * k + 2, cy, cx), b);
    }
    return float3(unit(r / sum + 0.5f), unit(g / sum + 0.5f), unit(b / sum + 0.5f));
}

KERNEL(paint_rgb, device const float* masks, device const float* colours, constant Canvas& canvas, device float* out) {
    const Canvas c = copied(canvas);
    const uint i = at1(block, me), pixels = c.height * c.width;
    if (i >= pixels) return;
    const float3 p = paint_pixel(masks, colours, c, i / c.width, i % c.width);
    out[i] = p.x;
    out[pixels + i] = p.y;
    out[2 * pixels + i] = p.z;
}

DEVICE uchar to_byte(float x) { return uchar(fmin(fmax(floor(x + 0.5f), 0.0f), 255.0f)); }

DEVICE float luma(float3 p) { return 0.2126f * p.x + 0.7152f * p.y + 0.0722f * p.z; }

// A thread paints 2 x 2 pixels: BT.709, limited range, chroma of their mean. Planes Y, U, V follow one another.
KERNEL(paint_i420, device const float* masks, device const float* colours, constant Canvas& canvas, device uchar* out) {
    const Canvas c = copied(canvas);
    const uint i = at1(block, me), pixels = c.height * c.width;
    if (i >= pixels / 4) return;
    const uint row = i / (c.width / 2) * 2, column = i % (c.width / 2) * 2;
    float r = 0.0f, g = 0.0f, b = 0.0f;
    for (uint n = 0; n < 4; n++) {
        const uint y = row + n / 2, x = column + n % 2;
        const float3 p = paint_pixel(masks, colours, c, y, x);
        r += p.x;
        g += p.y;
        b += p.z;
        out[y * c.width + x] = to_byte(16.0f + 219.0f * luma(p));
    }
    const float3 mean = float3(r * 0.25f, g * 0.25f, b * 0.25f);
    const float l = luma(mean);
    out[pixels + i] = to_byte(128.0f + 224.0f * (mean.z - l) / 1.8556f);
    out[pixels + pixels / 4 + i] = to_byte(128.0f + 224.0f * (mean.x - l) / 1.5748f);
}
