/* max(x, 0); y may be x. */
static void relu(const float *x, float *y, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        y[i] = x[i] > 0.0f ? x[i] : 0.0f;
    }
}
