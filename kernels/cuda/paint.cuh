// The painting head: masks and colours upsampled, softmax over layers, blended.

#pragma once

struct Canvas {
    u32 h, w, layers;        // colour grid; the mask grid is twice as fine
    u32 full_h, full_w;      // pixels that the grid covers
    u32 height, width;       // pixels that are painted
    float scale;
};

struct Tap {
    u32 a, b;
    float t;
};

// As `check::tap` in src/check.rs.
DEVICE Tap tap(u32 i, u32 from, u32 full) {
    double x = (double(i) + 0.5) * double(from) / double(full) - 0.5;
    x = x < 0.0 ? 0.0 : (x > double(from - 1) ? double(from - 1) : x);
    Tap p;
    p.a = u32(x);
    p.b = p.a + 1 < from ? p.a + 1 : from - 1;
    p.t = float(x - double(p.a));
    return p;
}

DEVICE float bilinear(const float* grid, u32 width, u32 channels, u32 channel, const Tap& y, const Tap& x) {
    const float* top = grid + u64(y.a) * width * channels + channel;
    const float* bottom = grid + u64(y.b) * width * channels + channel;
    const float upper = (1.0f - x.t) * top[x.a * channels] + x.t * top[x.b * channels];
    const float lower = (1.0f - x.t) * bottom[x.a * channels] + x.t * bottom[x.b * channels];
    return (1.0f - y.t) * upper + y.t * lower;
}

// One pixel in 0..1.
DEVICE float3 paint_pixel(const float* masks, const float* colours, const Canvas& c, u32 row, u32 column) {
    const Tap my = tap(row, 2 * c.h, c.full_h), mx = tap(column, 2 * c.w, c.full_w);
    const Tap cy = tap(row, c.h, c.full_h), cx = tap(column, c.w, c.full_w);
    float most = NEGATIVE_INFINITY;
    for (u32 k = 0; k < c.layers; k++) most = fmaxf(most, bilinear(masks, 2 * c.w, c.layers, k, my, mx) * c.scale);
    float sum = 0.0f, r = 0.0f, g = 0.0f, b = 0.0f;
    for (u32 k = 0; k < c.layers; k++) {
        const float e = expf(bilinear(masks, 2 * c.w, c.layers, k, my, mx) * c.scale - most);
        sum += e;
        r = fmaf(e, bilinear(colours, c.w, 3 * c.layers, 3 * k, cy, cx), r);
        g = fmaf(e, bilinear(colours, c.w, 3 * c.layers, 3 * k + 1, cy, cx), g);
        b = fmaf(e, bilinear(colours, c.w, 3 * c.layers, 3 * k + 2, cy, cx), b);
    }
    return make_float3(__saturatef(r / sum + 0.5f), __saturatef(g / sum + 0.5f), __saturatef(b / sum + 0.5f));
}

KERNEL(paint_rgb, 256, (const float* masks, const float* colours, Canvas c, float* out)) {
    const u64 i = thread_index(), pixels = u64(c.height) * c.width;
    if (i >= pixels) return;
    const float3 p = paint_pixel(masks, colours, c, u32(i / c.width), u32(i % c.width));
    out[i] = p.x;
    out[pixels + i] = p.y;
    out[2 * pixels + i] = p.z;
}

DEVICE u8 to_byte(float x) { return u8(fminf(fmaxf(floorf(x + 0.5f), 0.0f), 255.0f)); }

DEVICE float luma(const float3& p) { return 0.2126f * p.x + 0.7152f * p.y + 0.0722f * p.z; }

// A thread paints 2 x 2 pixels: BT.709, limited range, chroma of their mean. Planes Y, U, V follow one another.
KERNEL(paint_i420, 256, (const float* masks, const float* colours, Canvas c, u8* out)) {
    const u64 i = thread_index(), pixels = u64(c.height) * c.width;
    if (i >= pixels / 4) return;
    const u32 row = u32(i / (c.width / 2)) * 2, column = u32(i % (c.width / 2)) * 2;
    float3 mean = make_float3(0.0f, 0.0f, 0.0f);
    for (u32 n = 0; n < 4; n++) {
        const u32 y = row + n / 2, x = column + n % 2;
        const float3 p = paint_pixel(masks, colours, c, y, x);
        mean = make_float3(mean.x + p.x, mean.y + p.y, mean.z + p.z);
        out[u64(y) * c.width + x] = to_byte(16.0f + 219.0f * luma(p));
    }
    mean = make_float3(mean.x * 0.25f, mean.y * 0.25f, mean.z * 0.25f);
    const float l = luma(mean);
    out[pixels + i] = to_byte(128.0f + 224.0f * (mean.z - l) / 1.8556f);
    out[pixels + pixels / 4 + i] = to_byte(128.0f + 224.0f * (mean.x - l) / 1.5748f);
}
